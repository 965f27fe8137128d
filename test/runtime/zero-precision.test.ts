/** Sharded state with precision: 16 bits on every rank, float32 parameters and moments in parts. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { glorotFrom } from '../../src/models/seeds.js'
import type { DdpOptions } from '../../src/runtime/ddp-options.js'
import { adam, clipByGlobalNorm, momentum } from '../../src/runtime/optimizers/index.js'
import { World } from '../../src/runtime/world.js'
import { GROUPS } from '../collectives/groups.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const LEVELS = [1, 2, 3] as const
/** What ranks say: that the cpu provider rounds. */
const said = vi.spyOn(console, 'error')
beforeAll(() => said.mockImplementation(() => {}))
afterAll(() => said.mockRestore())

const options = (given: Partial<DdpOptions>): DdpOptions => ({
  ...{ loss: 'softmaxCrossEntropy', optimizer: adam(0.01), precision: 'float16' },
  ...given,
})

const batchOf = ({ rank, size }: World, step: number, of = 8) =>
  samples((step * size + rank) * of, (step * size + rank + 1) * of)

const furthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

describe('twenty-four layers on four ranks in shared memory', () => {
  const deep = () => {
    const glorot = glorotFrom(1)
    const dense = (units: number, rest = {}) => layers.dense({ units, kernelInitializer: glorot(), ...rest })
    const hidden = Array.from({ length: 22 }, () => dense(64, { activation: 'tanh' }))
    return sequential({ layers: [dense(64, { inputShape: [6] }), ...hidden, dense(3)] })
  }
  const parameters = deep().countParams()
  const run = async (given: Partial<DdpOptions>) => {
    const group = await GROUPS.find(({ name }) => name === 'shared memory')!.connect(4)
    const worlds = group.map((links, rank) => new World(links, rank, 1))
    const ranks = await Promise.all(
      worlds.map(async (world) => {
        const ddp = await world.ddp(deep(), options({ overlap: 1, optimizer: adam(1e-3), ...given }))
        const [losses, sent]: [number[], number[]] = [[], []]
        for (let step = 0; step < 6; step++) {
          const { x, y } = batchOf(world, step)
          const before = world.collectives.bytesSent
          losses.push((await ddp.step(x, y)).loss)
          sent.push(world.collectives.bytesSent - before)
        }
        const { stateBytes } = ddp
        await ddp.gather()
        return { losses, stateBytes, sent: sent.at(-1)!, sha: ddp.paramsSha256() }
      }),
    )
    await Promise.all(worlds.map((world) => world.close()))
    return ranks
  }
  const plain = run({ precision: 'float32' })
  const whole = run({})

  test.each([
    // On paper 7/16, 5.5/16 and, as passes get parameters rounded from the float32 ones, 3.5/16.
    [1, 0.45, 1],
    [2, 0.35, 1],
    [3, 0.28, 1.5],
  ] as const)('zero %i: losses, bytes and state', async (zero, share, rounds) => {
    const ranks = await run({ zero, overlap: 'auto' })
    const [first] = ranks
    const [exact] = await plain
    expect(furthest(first!.losses, (await whole)[0]!.losses)).toBeLessThan(0.01)
    expect(first!.stateBytes / exact!.stateBytes).toBeLessThanOrEqual(share)
    const half = (3 / 2) * 2 * parameters // of a float32 all-reduce
    for (const { sha, losses, sent } of ranks) {
      expect(sha).toBe(first!.sha)
      expect(losses).toEqual(first!.losses)
      expect(sent).toBeLessThan(1.06 * rounds * half)
    }
    expect(exact!.sent).toBeGreaterThan(2 * half)
  })
})

describe.each(LEVELS)('zero %i', (zero) => {
  test.each(['float16', 'bfloat16'] as const)('%s follows its training without ZeRO', async (precision) => {
    const run = (given: Partial<DdpOptions>) =>
      asRanks(2, async (world) => {
        const ddp = await world.ddp(tinyModel({ dropout: 0.2 }), options({ precision, ...given }))
        const losses: number[] = []
        for (let step = 0; step < 10; step++) {
          const { x, y } = batchOf(world, step, 6 + 2 * world.rank)
          // Of different sizes, and more on one rank than on the other.
          if (step % 4 === 2)
            await ddp.accumulate(batchOf(world, 40 + step, 3).x, batchOf(world, 40 + step, 3).y)
          if (step === 6) await ddp.accumulate(batchOf(world, 50, 5).x, batchOf(world, 50, 5).y)
          const { loss, skipped, samples: count } = await ddp.step(x, y)
          expect(skipped).toBeUndefined()
          expect(count).toBe(14 + (step % 4 === 2 ? 6 : 0) + (step === 6 ? 10 : 0))
          losses.push(loss)
        }
        const { loss } = await ddp.evaluate([batchOf(world, 90)])
        return { losses, loss, sha: ddp.paramsSha256() }
      })
    const [whole] = await run({})
    const sharded = await run({ zero })
    expect(sharded[1]).toEqual(sharded[0])
    const bound = precision === 'float16' ? 2e-3 : 2e-2
    expect(furthest(sharded[0]!.losses, whole!.losses)).toBeLessThan(bound)
    expect(Math.abs(sharded[0]!.loss - whole!.loss)).toBeLessThan(bound)
  })

  test('clips by the norm of all ranks’ parts, whatever the loss scale', async () => {
    const run = (given: Partial<DdpOptions>) =>
      asRanks(3, async (world) => {
        const optimizer = clipByGlobalNorm(momentum(0.5), 0.05)
        const ddp = await world.ddp(tinyModel(), options({ optimizer, ...given }))
        for (let step = 0; step < 4; step++) await ddp.step(batchOf(world, step).x, batchOf(world, step).y)
        await ddp.gather()
        return [...(await ddp.predict(samples(0, 4).x)).data]
      })
    const [exact] = await run({ precision: 'float32' })
    for (const lossScale of [64, 4096])
      for (const scores of await run({ zero, lossScale })) expect(furthest(scores, exact!)).toBeLessThan(3e-3)
  })

  describe('a step that overflows', () => {
    /** One weight and the loss y·x·w: gradients are what the batch says. */
    const one = async (world: World, initScale: number, minScale: number) => {
      const model = sequential({
        layers: [layers.dense({ units: 1, useBias: false, inputShape: [1], kernelInitializer: 'zeros' })],
      })
      const loss = (y: tf.Tensor, p: tf.Tensor) => tf.mean(tf.mul(p, y)) as tf.Scalar
      const lossScale = { initScale, minScale }
      const ddp = await world.ddp(model, options({ optimizer: momentum(1e-9), lossScale, zero, loss }))
      const step = (...own: number[]) => {
        const [x, y] = [own, own.map(() => 1)].map((of) => ({
          data: Float32Array.from(of),
          shape: [of.length, 1],
        }))
        return ddp.step(x!, y!)
      }
      return { ddp, step }
    }

    test('on one rank, or only in the sum, is skipped by all', async () => {
      const ranks = await asRanks(2, async (world) => {
        const { ddp, step } = await one(world, 2, 2 ** -4)
        const outcomes: string[] = []
        for (const own of [1, 40_000, world.rank === 1 ? 1e9 : 1, 1]) {
          const { skipped = false, lossScale } = await step(own)
          outcomes.push(`${skipped ? 'skipped' : 'made'} at ${lossScale}`)
        }
        await ddp.gather()
        return { outcomes, steps: ddp.stepCount, sha: ddp.paramsSha256() }
      })
      expect(ranks[0]!.outcomes).toEqual(['made at 2', 'skipped at 2', 'skipped at 1', 'made at 0.5'])
      expect(ranks[0]!.steps).toBe(2)
      expect(ranks[1]).toEqual(ranks[0])
    })

    test('ends the run where the scale cannot fall', async () => {
      const errors = await failures(2, async (world) => {
        const { step } = await one(world, 1, 1)
        await step(1)
        await step(40_000, 40_000, 40_000)
      })
      for (const { message } of errors)
        expect(message).toMatch(
          /below its minimum of 1: the loss or a sum of all ranks' gradients of step 2 is not/,
        )
    })
  })

  test('a checkpoint holds the float32 parameters: any precision and split goes on from it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lockstep-zero16-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const [saved] = await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), options({ zero }))
      for (let step = 0; step < 3; step++) await ddp.step(batchOf(world, step).x, batchOf(world, step).y)
      await ddp.save(directory)
      await ddp.gather()
      const sha = ddp.paramsSha256()
      const { loss } = await ddp.step(batchOf(world, 9).x, batchOf(world, 9).y)
      return { sha, loss }
    })
    const resume = (ranks: number, given: Partial<DdpOptions>) =>
      asRanks(ranks, async (world) => {
        const ddp = await world.ddp(tinyModel({ seed: 5 }), options(given))
        expect(await ddp.load(directory)).toEqual({})
        await ddp.gather()
        const sha = ddp.paramsSha256()
        const { x, y } = samples(18 * 8 + (world.rank * 16) / ranks, 18 * 8 + ((world.rank + 1) * 16) / ranks)
        return { sha, loss: (await ddp.step(x, y)).loss }
      })
    expect(await resume(2, { zero })).toEqual([saved, saved])
    for (const [ranks, given] of [
      [1, { precision: 'float32' }],
      [2, { precision: 'bfloat16', zero: ((zero % 3) + 1) as 1 }],
    ] as const) {
      const [resumed] = await resume(ranks, given)
      expect(resumed!.sha).toBe(saved!.sha)
      expect(resumed!.loss).toBeCloseTo(saved!.loss, 2)
    }
  })
})

test('over sockets as over queues', async () => {
  const run = async (name: string) => {
    const links = await GROUPS.find((kind) => kind.name === name)!.connect(3)
    const worlds = links.map((link, rank) => new World(link, rank, 1))
    const shas = await Promise.all(
      worlds.map(async (world) => {
        const ddp = await world.ddp(tinyModel(), options({ zero: 2 }))
        for (let step = 0; step < 3; step++) await ddp.step(batchOf(world, step).x, batchOf(world, step).y)
        await ddp.gather()
        return ddp.paramsSha256()
      }),
    )
    await Promise.all(worlds.map((world) => world.close()))
    return shas
  }
  const queues = await run('memory')
  expect(await run('tcp')).toEqual(queues)
  expect(await run('shared memory')).toEqual(queues)
})

test('a world of one shards nothing and keeps float32', async () => {
  const run = (zero: 0 | 3) =>
    asRanks(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), options({ zero }))
      for (let step = 0; step < 2; step++) await ddp.step(batchOf(world, step).x, batchOf(world, step).y)
      return ddp.paramsSha256()
    })
  expect(await run(3)).toEqual(await run(0))
})

describe('wrong uses are errors of one line', () => {
  test('float32 parameters that are spread', async () => {
    await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), options({ zero: 1, precision: 'bfloat16' }))
      const spread =
        /^with zero 1 and precision bfloat16 each rank holds a part of the float32 parameters: call await ddp.gather\(\) on all ranks first$/
      expect(() => ddp.paramsSha256()).toThrow(spread)
      await expect(ddp.predict(samples(0, 2).x)).rejects.toThrow(spread)
      await ddp.gather()
      expect((await ddp.predict(samples(0, 2).x)).data).toHaveLength(6)
    })
  })

  test('weights with constraints, and a NaN', async () => {
    const constrained = () =>
      sequential({
        layers: [layers.dense({ units: 3, inputShape: [6], kernelConstraint: 'nonNeg', name: 'scores' })],
      })
    for (const { message } of await failures(2, (world) => world.ddp(constrained(), options({ zero: 1 }))))
      expect(message).toMatch(/^weight scores\/kernel has a constraint, .*: use zero 0, or leave it out$/)
    const errors = await failures(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), options({ zero: 2, precision: 'bfloat16' }))
      const { x, y } = batchOf(world, 0)
      await ddp.step({ ...x, data: x.data.slice().fill(Number.NaN) }, y)
    })
    for (const { message } of errors) expect(message).toMatch(/^the loss of step 1 is not finite on rank 0/)
  })
})
