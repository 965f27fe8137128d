/** Ranks that train for themselves between averagings: local SGD and DiLoCo, against plain training and plain arithmetic. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterAll, expect, test, vi } from 'vitest'
import type { Ddp } from '../../src/runtime/ddp.js'
import type { DdpOptions } from '../../src/runtime/ddp-options.js'
import { adam, adamw, momentum, sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

type Options = Omit<DdpOptions, 'loss'>
const directory = mkdtempSync(join(tmpdir(), 'lockstep-local-'))
afterAll(() => rmSync(directory, { recursive: true }))

const batchOf = (step: number, rank: number, size: number) => {
  const from = (step * size + rank) * 8
  return samples(from, from + 8)
}

/** Trains `steps` steps from where the trainer is; `before` is called before each with how many are done. */
async function steps(
  ddp: Ddp,
  rank: number,
  size: number,
  until: number,
  before?: (done: number) => unknown,
) {
  const losses: number[] = []
  for (let step = ddp.stepCount; step < until; step++) {
    await before?.(step)
    const { x, y } = batchOf(step, rank, size)
    losses.push((await ddp.step(x, y)).loss)
  }
  return losses
}

const make = (options: Options) => ({ loss: 'softmaxCrossEntropy' as const, ...options })

/** Parameters of all ranks after so many steps, one number after the other, and what they sent. */
const train = (size: number, until: number, options: Options) =>
  asRanks(size, async (world) => {
    const model = tinyModel()
    const ddp = await world.ddp(model, make(options))
    const before = world.collectives.bytesSent
    const losses = await steps(ddp, world.rank, size, until)
    const sent = world.collectives.bytesSent - before
    const sha = ddp.paramsSha256()
    ddp.updateModel()
    return { losses, sent, sha, values: model.getWeights().flatMap((weight) => [...weight.dataSync()]) }
  })

const farthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

test('averaged after every step of SGD it is plain data parallelism', async () => {
  const [plain] = await train(2, 6, { optimizer: sgd(0.1) })
  const local = await train(2, 6, { optimizer: sgd(0.1), localSteps: 1 })
  expect(local[1]!.sha).toBe(local[0]!.sha)
  expect(farthest(local[0]!.values, plain!.values)).toBeLessThan(1e-6)
})

test('averaged after every fourth step a quarter of the bytes travels; in between ranks differ', async () => {
  const [plain] = await train(2, 8, { optimizer: adam(0.01) })
  const [local] = await train(2, 8, { optimizer: adam(0.01), localSteps: 4 })
  expect(local!.sent / plain!.sent).toBeCloseTo(1 / 4, 6)
  const [one, two] = await train(2, 7, { optimizer: adam(0.01), localSteps: 4 })
  expect(one!.sha).not.toBe(two!.sha)
  expect(local!.losses.at(-1)).toBeLessThan(local!.losses[0]!)
})

test('the warm-up is plain training', async () => {
  const plain = await train(2, 4, { optimizer: adam(0.01) })
  const local = await train(2, 4, { optimizer: adam(0.01), localSteps: { every: 2, warmUp: 4 } })
  expect(local.map(({ sha }) => sha)).toEqual(plain.map(({ sha }) => sha))
  const after = await train(2, 5, { optimizer: adam(0.01), localSteps: { every: 2, warmUp: 4 } })
  expect(after[0]!.sha).not.toBe(after[1]!.sha)
})

const FEATURES = 6
const CLASSES = 3
const RATE = 0.02
const DECAY = 0.1

/** DiLoCo's algorithm 1 with AdamW and Nesterov's momentum, as written, for softmax regression in float64. */
function diloco(workers: number, every: number, rounds: number, start: readonly number[]): number[] {
  let global = [...start]
  const velocity = start.map(() => 0)
  const states = Array.from({ length: workers }, () => ({
    m: start.map(() => 0),
    v: start.map(() => 0),
  }))
  let step = 0
  for (let round = 0; round < rounds; round++) {
    const moved = states.map(({ m, v }, worker) => {
      const own = [...global]
      for (let inner = 0; inner < every; inner++) {
        const t = step + inner + 1
        const { x, y } = batchOf(t - 1, worker, workers)
        gradientOf(own, x.data, y.data).forEach((g, i) => {
          m[i] = 0.9 * m[i]! + 0.1 * g
          v[i] = 0.999 * v[i]! + 0.001 * g * g
          const direction = m[i]! / (1 - 0.9 ** t) / (Math.sqrt(v[i]! / (1 - 0.999 ** t)) + 1e-8)
          own[i] = own[i]! * (1 - RATE * DECAY) - RATE * direction
        })
      }
      return own.map((value, i) => global[i]! - value)
    })
    step += every
    global = global.map((value, i) => {
      const outer = moved.reduce((sum, each) => sum + each[i]!, 0) / workers
      velocity[i] = 0.9 * velocity[i]! + outer
      return value - 0.7 * (outer + 0.9 * velocity[i]!)
    })
  }
  return global
}

/** Of the mean cross-entropy: kernel [6, 3], then biases. */
function gradientOf(params: readonly number[], x: Float32Array, labels: Int32Array): number[] {
  const gradient = params.map(() => 0)
  labels.forEach((label, n) => {
    const inputs = [...x.subarray(n * FEATURES, (n + 1) * FEATURES), 1]
    const scores = Array.from({ length: CLASSES }, (_, c) =>
      inputs.reduce((sum, value, i) => sum + value * params[i * CLASSES + c]!, 0),
    )
    const total = scores.reduce((sum, score) => sum + Math.exp(score), 0)
    scores.forEach((score, c) => {
      const error = (Math.exp(score) / total - Number(c === label)) / labels.length
      inputs.forEach((value, i) => {
        gradient[i * CLASSES + c]! += error * value
      })
    })
  })
  return gradient
}

const outer = () => momentum(0.7, { momentum: 0.9, nesterov: true })

test('DiLoCo does what its paper says', async () => {
  const [every, rounds] = [3, 4]
  const ranks = await asRanks(2, async (world) => {
    const model = sequential({ layers: [layers.dense({ inputShape: [FEATURES], units: CLASSES })] })
    const start = model.getWeights().flatMap((weight) => [...weight.dataSync()])
    const optimizer = adamw(RATE, { weightDecay: DECAY })
    const ddp = await world.ddp(model, make({ optimizer, localSteps: { every, outer: outer() } }))
    await steps(ddp, world.rank, 2, every * rounds)
    ddp.updateModel()
    return { start, values: model.getWeights().flatMap((weight) => [...weight.dataSync()]) }
  })
  expect(ranks[1]!.values).toEqual(ranks[0]!.values)
  const expected = diloco(2, every, rounds, ranks[0]!.start)
  expect(farthest(ranks[0]!.values, expected)).toBeLessThan(1e-5)
  expect(farthest(ranks[0]!.values, ranks[0]!.start)).toBeGreaterThan(0.1)
})

const LOCAL: Options = { optimizer: adamw(0.01), localSteps: { every: 4, outer: outer() } }

test('evaluation is of the mean, the same on all ranks, and changes nothing', async () => {
  const run = (evaluate: boolean) =>
    asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), make(LOCAL))
      const found: number[] = []
      await steps(ddp, world.rank, 2, 8, async (done) => {
        if (evaluate && done % 4 === 2) found.push((await ddp.evaluate([batchOf(0, world.rank, 2)])).loss)
      })
      return { found, sha: ddp.paramsSha256() }
    })
  const [first, second] = await run(true)
  expect(first!.found).toHaveLength(2)
  expect(second).toEqual(first)
  expect((await run(false))[0]!.sha).toBe(first!.sha)
})

test.each([
  ['at the end of a round', 4],
  ['within a round, which it ends', 6],
])('a checkpoint saved %s is one model, and resumes bit for bit', async (_, at) => {
  const where = join(directory, `${at}`)
  const run = (phase: 'first' | 'resumed') =>
    asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), make(LOCAL))
      if (phase === 'resumed') await ddp.load(where)
      await steps(ddp, world.rank, 2, 12, async (done) => {
        if (done !== at || phase === 'resumed') return
        await ddp.save(where)
        const hashes = await world.collectives.allGather(new TextEncoder().encode(ddp.paramsSha256()))
        expect(hashes.subarray(0, 64)).toEqual(hashes.subarray(64))
      })
      return ddp.paramsSha256()
    })
  const uninterrupted = await run('first')
  expect(new Set(uninterrupted).size).toBe(1)
  expect(await run('resumed')).toEqual(uninterrupted)
})

test('another number of ranks goes on with the parameters and the outer state', async () => {
  const where = join(directory, 'resized')
  const [saved] = await asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), make(LOCAL))
    await steps(ddp, world.rank, 2, 4)
    await ddp.save(where)
    return ddp.paramsSha256()
  })
  const said = vi.spyOn(console, 'error').mockImplementation(() => {})
  const loaded = await asRanks(3, async (world) => {
    const ddp = await world.ddp(tinyModel(), make(LOCAL))
    await ddp.load(where)
    const before = ddp.paramsSha256()
    await steps(ddp, world.rank, 3, 8)
    return { before, after: ddp.paramsSha256() }
  })
  const lines = said.mock.calls.map(([line]) => line as string)
  said.mockRestore()
  expect(lines).toEqual([
    expect.stringMatching(
      /step-\d+ has no localSteps' optimizer state of 3 ranks with these options: it starts/,
    ),
  ])
  expect(loaded.map(({ before }) => before)).toEqual([saved, saved, saved])
  expect(new Set(loaded.map(({ after }) => after)).size).toBe(1)
})

test('a NaN is an error on every rank at the end of the round, which is undone', async () => {
  const ranks = await asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), make({ optimizer: sgd(0.1), localSteps: 3 }))
    const before = ddp.paramsSha256()
    const { x, y } = batchOf(0, world.rank, 2)
    const bad = { ...x, data: x.data.slice().fill(world.rank === 1 ? Number.NaN : 0.5) }
    await ddp.step(x, y)
    const { loss } = await ddp.step(bad, y)
    expect(Number.isFinite(loss)).toBe(world.rank === 0)
    await expect(ddp.step(x, y)).rejects.toThrow(
      'the loss of step 3 is not finite on rank 1 (NaN): lower the learning rate, or look for NaN and infinities in that ' +
        'batch; parameters are as before this round of 3 local steps',
    )
    expect(ddp.paramsSha256()).toBe(before)
    await steps(ddp, world.rank, 2, 6)
    return ddp.paramsSha256()
  })
  expect(ranks[1]).toBe(ranks[0])
})

test('micro-batches are accumulated, and compressors compress what ranks have moved by', async () => {
  for (const compression of ['none', 'topk:0.1']) {
    const ranks = await asRanks(2, async (world) => {
      const wide = sequential({
        layers: [
          layers.dense({ inputShape: [FEATURES], units: 400, activation: 'relu' }),
          layers.dense({ units: 3 }),
        ],
      })
      const ddp = await world.ddp(wide, make({ optimizer: adam(0.01), compression, localSteps: 2 }))
      await steps(ddp, world.rank, 2, 8, async (done) => {
        const { x, y } = batchOf(done + 20, world.rank, 2)
        await ddp.accumulate(x, y)
      })
      return ddp.paramsSha256()
    })
    expect(ranks[1]).toBe(ranks[0])
  }
})

test.each([
  [{ localSteps: 0 }, 'localSteps is 0: expected how many steps lie between two averagings'],
  [{ localSteps: { every: 2, warmUp: -1 } }, 'localSteps.warmUp is -1: expected a number of steps'],
  [{ localSteps: 2, zero: 1 }, 'zero is 1 with localSteps 2: ranks that differ cannot share state'],
  [{ localSteps: 2, overlap: 3 }, 'overlap is 3 with localSteps 2, where no gradients are exchanged'],
  [{ localSteps: 2, lossScale: 8 }, 'a loss scale with localSteps 2'],
] as const)('%j is an error', async (options, message) => {
  const [error] = await failures(1, (world) =>
    world.ddp(tinyModel(), make({ optimizer: sgd(0.1), ...options })),
  )
  expect(error!.message).toContain(message)
})

test('ranks that average at different steps are told so', async () => {
  const errors = await failures(2, (world) =>
    world.ddp(tinyModel(), make({ optimizer: sgd(0.1), localSteps: 2 + world.rank })),
  )
  for (const { message } of errors)
    expect(message).toContain('localSteps is "2 after 0" on rank 0 and "3 after 0"')
})
