/** Sharded state (ZeRO): the same training as on one rank, in fewer bytes a rank, with as many on the links as all-reduces. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { gpt } from '../../src/models/gpt.js'
import type { Ddp } from '../../src/runtime/ddp.js'
import type { DdpOptions } from '../../src/runtime/ddp-options.js'
import { adam, clipByGlobalNorm, clipByValue, lamb, momentum } from '../../src/runtime/optimizers/index.js'
import { World } from '../../src/runtime/world.js'
import { GROUPS } from '../collectives/groups.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const loss = 'softmaxCrossEntropy'
const shape = { vocabulary: 24, context: 8, width: 16, heads: 2, depth: 3 }
const BATCH = 8
const LEVELS = [1, 2, 3] as const

/** Sequences `from` … `to` - 1 of an endless deterministic text. */
function sequences(from: number, to: number) {
  const { context, vocabulary } = shape
  const token = (at: number) => Math.floor(((Math.sin(at * 0.7) + 1) / 2) * (vocabulary - 1))
  const numbers = (shift: number) =>
    Int32Array.from({ length: (to - from) * context }, (_, i) => token(from * context + i + shift))
  const [x, y] = [0, 1].map((shift) => ({ data: numbers(shift), shape: [to - from, context] }))
  return { x: x!, y: y! }
}

async function train(ddp: Ddp, world: World, steps: number): Promise<number[]> {
  const losses: number[] = []
  const share = BATCH / world.size
  for (let step = 0; step < steps; step++) {
    const first = step * BATCH + world.rank * share
    const { x, y } = sequences(first, first + share)
    losses.push((await ddp.step(x, y)).loss)
  }
  return losses
}

const furthest = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

describe('thirty steps of a small GPT on four ranks', () => {
  const run = (ranks: number, options: Partial<DdpOptions>) =>
    asRanks(ranks, async (world) => {
      const ddp = await world.ddp(gpt(shape), { loss, optimizer: adam(1e-2), overlap: 1, ...options })
      await train(ddp, world, 1)
      const before = world.collectives.bytesSent
      const losses = await train(ddp, world, 30)
      const bytesAStep = (world.collectives.bytesSent - before) / 30
      const { stateBytes } = ddp
      const { loss: tested } = await ddp.evaluate([sequences(world.rank, world.rank + 2)])
      return { losses, stateBytes, bytesAStep, tested, sha: ddp.paramsSha256() }
    })
  const alone = run(1, {})
  const plain = run(4, {})

  test.each([
    // On paper 2.5/4, 1.75/4 and 1/4, without the buffers that units pass through and without padding.
    [1, 2, [0.625, 0.63]],
    [2, 2, [0.4375, 0.53]],
    [3, 3, [0.25, 0.42]],
  ] as const)('zero %i: losses, bytes and state', async (zero, halves, [least, most]) => {
    const ranks = await run(4, { zero, overlap: 'auto' })
    const [first] = ranks
    const { losses, stateBytes, tested } = (await alone)[0]!
    expect(furthest(first!.losses, losses)).toBeLessThan(1e-4)
    expect(first!.tested).toBeCloseTo((await plain)[0]!.tested, 4)
    expect(Math.abs(first!.tested - tested)).toBeLessThan(1) // other samples, as there are more ranks
    for (const rank of ranks) expect(rank.sha).toBe(first!.sha)
    for (const rank of ranks) expect(rank.losses).toEqual(first!.losses)
    const ratio = first!.stateBytes / stateBytes
    expect(ratio).toBeGreaterThanOrEqual(least)
    expect(ratio).toBeLessThan(most)
    // Half an all-reduce: (W - 1) / W of the gradients; and 64 bytes of stats, in 2 rounds. Padding makes it 1 % more.
    const half = (3 / 4) * (gpt(shape).countParams() * 4)
    for (const rank of ranks) {
      // Of those that a segment of the backward pass shares with the forward pass it gathers once, not twice.
      expect(rank.bytesAStep).toBeGreaterThan((halves - (zero === 3 ? 0.3 : 0)) * half)
      expect(rank.bytesAStep).toBeLessThan(1.03 * halves * half)
    }
  })
})

const small = (zero: 0 | 1 | 2 | 3, options: Partial<DdpOptions> = {}) => ({
  loss: 'softmaxCrossEntropy' as const,
  optimizer: adam(0.01),
  zero,
  ...options,
})

const batch = (world: World, step: number, of = 8) =>
  samples((step * world.size + world.rank) * of, (step * world.size + world.rank + 1) * of)

describe.each(LEVELS)('zero %i', (zero) => {
  const run = (level: 0 | 1 | 2 | 3, accumulates = false, optimizer = adam(0.01)) =>
    asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel({ dropout: 0.2 }), small(level, { optimizer }))
      for (let step = 0; step < 4; step++) {
        const { x, y } = batch(world, step)
        const more = batch(world, 9, 3)
        if (step === 2 && accumulates) await ddp.accumulate(more.x, more.y)
        await ddp.step(x, y)
      }
      await ddp.gather()
      return { sha256: ddp.paramsSha256(), scores: [...(await ddp.predict(samples(0, 4).x)).data] }
    })

  test('two ranks: the bits of plain training', async () => {
    expect(await run(zero)).toEqual(await run(0))
    expect(await run(zero, false, momentum(0.1))).toEqual(await run(0, false, momentum(0.1)))
  })

  // From level 2 on ranks are summed up before passes are.
  test('accumulates as plain training does, up to the order of sums', async () => {
    const [plain] = await run(0, true)
    for (const { scores } of await run(zero, true)) expect(furthest(scores, plain!.scores)).toBeLessThan(1e-6)
    expect(furthest((await run(0))[0]!.scores, plain!.scores)).toBeGreaterThan(1e-4)
  })

  test('clips by the norm of all ranks’ parts', async () => {
    const run = (level: 0 | 1 | 2 | 3) =>
      asRanks(3, async (world) => {
        const optimizer = clipByGlobalNorm(momentum(0.5), 0.05)
        const ddp = await world.ddp(tinyModel(), small(level, { optimizer }))
        for (let step = 0; step < 4; step++) await ddp.step(batch(world, step).x, batch(world, step).y)
        await ddp.gather()
        return [...(await ddp.predict(samples(0, 4).x)).data]
      })
    const [plain] = await run(0)
    for (const scores of await run(zero)) expect(furthest(scores, plain!)).toBeLessThan(1e-5)
  })

  test('a NaN on one rank is an error on all, and changes nothing', async () => {
    const outcomes = await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), small(zero))
      await ddp.step(batch(world, 0).x, batch(world, 0).y)
      await ddp.gather()
      const before = ddp.paramsSha256()
      const { x, y } = batch(world, 1)
      const bad = { ...x, data: x.data.slice().fill(world.rank === 1 ? Number.NaN : 0) }
      const error = await ddp.step(bad, y).catch((e: Error) => e.message)
      await ddp.gather()
      const after = ddp.paramsSha256()
      await ddp.step(x, y)
      await ddp.gather()
      return { error, same: before === after, steps: ddp.stepCount, sha: ddp.paramsSha256() }
    })
    for (const { error, same, steps, sha } of outcomes) {
      expect(error).toMatch(/the loss of step 2 is not finite on rank 1 \(NaN\).*parameters are as before/)
      expect(same).toBe(true)
      expect(steps).toBe(2)
      expect(sha).toBe(outcomes[0]!.sha)
    }
  })

  test.each(GROUPS.filter(({ name }) => name === 'tcp' || name === 'shared memory'))(
    'over $name: as over queues',
    async ({ connect }) => {
      const run = async (links: Awaited<ReturnType<typeof connect>>) => {
        const worlds = links.map((link, rank) => new World(link, rank, 1))
        const shas = await Promise.all(
          worlds.map(async (world) => {
            const ddp = await world.ddp(gpt({ ...shape, width: 32 }), small(zero))
            for (let step = 0; step < 3; step++) {
              const { x, y } = sequences(step * 4 + world.rank * 2, step * 4 + world.rank * 2 + 2)
              await ddp.step(x, y)
            }
            await ddp.gather()
            return ddp.paramsSha256()
          }),
        )
        await Promise.all(worlds.map((world) => world.close()))
        return shas
      }
      expect(await run(await connect(2))).toEqual(await run(await GROUPS[0]!.connect(2)))
    },
  )
})

describe('checkpoints', () => {
  test('any split loads what any other has saved', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lockstep-zero-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const splits = [
      [2, 0],
      [2, 1],
      [3, 2],
      [2, 3],
      [1, 0],
    ] as const
    const go = (ranks: number, zero: 0 | 1 | 2 | 3, from: string | undefined, to: string) =>
      asRanks(ranks, async (world) => {
        const ddp = await world.ddp(tinyModel(), small(zero))
        if (from === undefined) {
          for (let step = 0; step < 3; step++) await ddp.step(batch(world, step).x, batch(world, step).y)
        } else expect(await ddp.load(from)).toEqual({ place: 7 })
        await ddp.save(to, { place: 7 }, { background: zero === 2 })
        await ddp.saved()
        // Six samples, whatever the number of ranks.
        const share = 6 / world.size
        const { x, y } = samples(100 + world.rank * share, 100 + (world.rank + 1) * share)
        const { loss: next } = await ddp.step(x, y)
        await ddp.gather()
        return { next, scores: [...(await ddp.predict(samples(0, 4).x)).data] }
      })
    let from: string | undefined
    let expected: { readonly next: number; readonly scores: readonly number[] } | undefined
    for (const [i, [ranks, zero]] of [...splits, ...splits.toReversed()].entries()) {
      const to = join(directory, `${i}`)
      for (const rank of await go(ranks, zero, from, to)) {
        expected ??= rank
        expect(rank.next).toBeCloseTo(expected.next, 5)
        expect(furthest(rank.scores, expected.scores)).toBeLessThan(1e-5)
      }
      from = to
    }
  })
})

describe('zero 3', () => {
  test('what needs all parameters says so, or gathers them', async () => {
    await asRanks(2, async (world) => {
      const model = tinyModel()
      const ddp = await world.ddp(model, small(3))
      const { x, y } = batch(world, 0)
      await ddp.step(x, y)
      const spread =
        /^with zero 3 each rank holds a part of the parameters: call await ddp.gather\(\) on all ranks first$/
      expect(() => ddp.paramsSha256()).toThrow(spread)
      await expect(ddp.predict(x)).rejects.toThrow(spread)
      const { stateBytes } = ddp
      await ddp.evaluate([{ x, y }])
      expect(ddp.stateBytes).toBeGreaterThan(stateBytes)
      const { data } = await ddp.predict(x)
      ddp.updateModel()
      const again = await world.ddp(model, small(0))
      expect((await again.predict(x)).data).toEqual(data)
      await ddp.step(x, y)
      expect(ddp.stateBytes).toBe(stateBytes)
      const { loss: after } = await ddp.evaluate([{ x, y }])
      expect(after).not.toBeCloseTo((await again.evaluate([{ x, y }])).loss, 6)
    })
  })
})

describe('wrong uses are errors of one line', () => {
  test.each([
    [{ zero: 4 as 3 }, /^zero is 4: expected 0 \(nothing is sharded\), 1 \(optimizer state\), 2 /],
    [{ zero: 1, optimizer: lamb(0.1) }, /^optimizer lamb needs whole tensors, and with zero 1 a rank holds/],
    [
      { zero: 2, optimizer: clipByValue(clipByGlobalNorm(adam(0.1), 1), 1) },
      /^optimizer adam needs all gradients at once, and with zero 2/,
    ],
    [{ zero: 1, compression: 'int8' }, /^compression is int8 with zero 1: .*leave one of them out$/],
    [{ zero: 2, overlap: 3 }, /^overlap is 3 with zero 2, .*leave overlap out$/],
    [{ zero: 3, engine: 'tfjs' }, /^engine tfjs needs all parameters at once: use zero 0, 1 or 2 with it/],
  ] as const)('%o', async (options, message) => {
    const errors = await failures(2, (world) =>
      world.ddp(tinyModel(), { loss, optimizer: adam(0.01), ...options }),
    )
    for (const error of errors) expect(error.message).toMatch(message)
  })

  test('levels that differ', async () => {
    const errors = await failures(2, (world) =>
      world.ddp(tinyModel(), { loss, optimizer: adam(0.01), zero: world.rank ? 1 : 2 }),
    )
    for (const { message } of errors)
      expect(message).toBe('zero is "2" on rank 0 and "1" on rank 1: give every rank the same')
  })
})

test('an eager engine, whose gradients come all at once', async () => {
  const run = (zero: 0 | 1 | 2) =>
    asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), small(zero, { engine: 'tfjs' }))
      for (let step = 0; step < 2; step++) await ddp.step(batch(world, step).x, batch(world, step).y)
      return ddp.paramsSha256()
    })
  expect(await run(1)).toEqual(await run(0))
  expect(await run(2)).toEqual(await run(0))
})
