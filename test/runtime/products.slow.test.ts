/**
 * Every kind of parallelism and their products train a GPT as one rank does, from the same global batches; meshes go on from each
 * other's checkpoints.
 */
import { describe, expect, test } from 'vitest'
import { adam, clipByGlobalNorm, sgd } from '../../src/runtime/optimizers/index.js'
import { temporaryFolder } from './checkpoint/temporary.js'
import { furthest, type Job, makeTrainer, takeSteps, type Way } from './parallel-gpt.js'
import { asRanks } from './ranks.js'

const { SLOW } = process.env

const job: Job = {
  shape: { vocabulary: 12, context: 8, width: 16, heads: 4, depth: 2 },
  batch: 8,
  steps: 4,
}

const train = (ranks: number, way: Way, of = job) =>
  asRanks(ranks, async (world) => {
    const trainer = await makeTrainer(world, of, way)
    const losses = await takeSteps(world, trainer, of)
    return { losses, stateBytes: trainer.stateBytes }
  })

describe.runIf(SLOW)(
  'thirty steps of a GPT of 4 layers, width 128, on four ranks: losses of one rank to 1e-4',
  () => {
    const large: Job = {
      shape: { vocabulary: 64, context: 16, width: 128, heads: 4, depth: 4 },
      batch: 8,
      steps: 30,
    }
    const optimizer = adam(1e-3)
    const alone = SLOW ? train(1, { optimizer }, large) : undefined

    test.each<[string, Way]>([
      ['dp4', {}],
      ['pp4, GPipe', { pp: 4, schedule: 'gpipe' }],
      ['pp4, 1F1B', { pp: 4, schedule: '1f1b' }],
      ['pp4, interleaved', { pp: 4, schedule: 'interleaved' }],
      ['tp4', { tp: 4 }],
      ['dp2 × pp2', { pp: 2 }],
      ['dp2 × tp2', { tp: 2 }],
      ['pp2 × tp2', { pp: 2, tp: 2 }],
      ['zero 1', { zero: 1 }],
      ['zero 2', { zero: 2 }],
      ['zero 3', { zero: 3 }],
      ['dp2 × pp2, zero 1', { pp: 2, zero: 1 }],
      ['dp2 × tp2, zero 1', { tp: 2, zero: 1 }],
    ])(
      '%s',
      async (_, way) => {
        const [expected] = await alone!
        expect(expected!.losses.at(-1)).toBeLessThan(0.9 * expected!.losses[0]!)
        for (const { losses } of await train(4, { optimizer, ...way }, large))
          expect(furthest(losses, expected!.losses)).toBeLessThan(1e-4)
      },
      300_000,
    )
  },
)

describe.runIf(SLOW)('meshes of a small GPT', () => {
  test.each<[number, string, Way]>([
    [4, 'dp 2 × tp 2, zero 1', { tp: 2, zero: 1 }],
    [4, 'pp 2 × tp 2, interleaved', { pp: 2, tp: 2, schedule: 'interleaved' }],
    [8, 'dp 2 × pp 2 × tp 2, zero 1', { pp: 2, tp: 2, zero: 1, microBatches: 2 }],
  ])('%i ranks, %s: the losses of one rank', async (ranks, _, way) => {
    const [alone] = await train(1, {})
    for (const { losses } of await train(ranks, way))
      expect(furthest(losses, alone!.losses)).toBeLessThan(1e-4)
  })

  test('stages and slices divide what a rank holds, and zero 1 the rest of it', async () => {
    const short = { ...job, steps: 1 }
    const most = async (ranks: number, way: Way) =>
      Math.max(...(await train(ranks, way, short)).map(({ stateBytes }) => stateBytes))
    const [one, four, eight] = [
      await most(1, {}),
      await most(4, { pp: 2, tp: 2 }),
      await most(8, { pp: 2, tp: 2, zero: 1, microBatches: 2 }),
    ]
    // Embeddings, norms and the head are not split.
    expect(four).toBeLessThan(0.45 * one)
    // Of parameters, gradients and two moments the moments are halved.
    expect(eight).toBeLessThan(0.8 * four)
  })

  test('a checkpoint of one mesh is gone on from on any other', async () => {
    const directory = await temporaryFolder()
    const until = (steps: number, ranks: number, way: Way) =>
      asRanks(ranks, async (world) => {
        const trainer = await makeTrainer(
          world,
          { ...job, shape: { ...job.shape, seed: 5 - Math.sign(steps - 1) } },
          way,
        )
        await trainer.load(directory)
        const losses = await takeSteps(world, trainer, { ...job, steps })
        await trainer.save(directory)
        return losses
      })
    const losses = [
      await until(1, 4, { pp: 2, tp: 2 }),
      await until(2, 4, { tp: 2, zero: 1 }),
      await until(3, 4, { pp: 2, zero: 1, microBatches: 2 }),
      await until(4, 2, { zero: 3 }),
      await until(5, 8, { pp: 2, tp: 2, zero: 1, microBatches: 2 }),
    ].flatMap(([losses]) => losses!)
    const [expected] = await asRanks(1, async (world) => {
      const trainer = await makeTrainer(world, { ...job, shape: { ...job.shape, seed: 5 } }, {})
      return takeSteps(world, trainer, { ...job, steps: 5 })
    })
    expect(furthest(losses, expected!)).toBeLessThan(1e-4)
  })

  test('clips by the norm of all stages and shards', async () => {
    const optimizer = clipByGlobalNorm(sgd(0.5), 0.05)
    const [expected] = await train(1, { optimizer })
    for (const way of [{ pp: 2 }, { pp: 2, zero: 1, microBatches: 2 }] as const)
      for (const { losses } of await train(way.zero ? 4 : 2, { ...way, optimizer }))
        expect(furthest(losses, expected!.losses)).toBeLessThan(1e-4)
  })

  test('an embedding tied to the head, over stages: clipped, sliced, sharded, and once in a checkpoint', async () => {
    const tied = { ...job, shape: { ...job.shape, tied: true } }
    const directory = await temporaryFolder()
    const run = (ranks: number, way: Way) =>
      asRanks(ranks, async (world) => {
        const trainer = await makeTrainer(world, tied, way)
        await trainer.load(directory)
        const losses = await takeSteps(world, trainer, tied)
        if (way.schedule) await trainer.save(directory)
        return { losses, stateBytes: trainer.stateBytes, sha: await trainer.paramsSha256() }
      })
    const [one] = await run(1, {})
    const optimizer = clipByGlobalNorm(sgd(0.5), 0.05)
    const [clipped] = await run(1, { optimizer })
    for (const way of [{}, { tp: 2 }, { zero: 1, microBatches: 2 }, { optimizer }] as const) {
      const ranks = await run('optimizer' in way ? 2 : 4, { pp: 2, ...way })
      for (const { losses, sha } of ranks) {
        expect(furthest(losses, ('optimizer' in way ? clipped : one)!.losses)).toBeLessThan(1e-4)
        expect(sha).toBe(ranks[0]!.sha)
      }
    }
    const [last] = await run(4, { pp: 4, schedule: '1f1b' })
    expect(furthest(last!.losses, one!.losses)).toBeLessThan(1e-4)
    const [loaded] = await run(1, {})
    expect(loaded!.losses).toEqual([])
    expect(loaded!.sha).toBe(last!.sha)
  })
})
