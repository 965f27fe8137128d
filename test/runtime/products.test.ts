/** Parallelisms multiplied by each other, on tiny models: the training is that of one rank. */
import { beforeAll, describe, expect, test } from 'vitest'
import { clipByGlobalNorm, sgd } from '../../src/runtime/optimizers/index.js'
import { furthest, type Job, makeTrainer, replicaOf, sequences, takeSteps, type Way } from './parallel-gpt.js'
import { asRanks, failures } from './ranks.js'

const job: Job = {
  shape: { vocabulary: 12, context: 8, width: 16, heads: 4, depth: 2 },
  batch: 8,
  steps: 4,
}

/** What every rank has seen. */
const train = (ranks: number, way: Way, of = job) =>
  asRanks(ranks, async (world) => {
    const trainer = await makeTrainer(world, of, way)
    const losses = await takeSteps(world, trainer, of)
    const { rank, size } = replicaOf(world, trainer)
    const share = of.batch / size
    const tested = await trainer.evaluate([sequences(of, rank * share, (rank + 1) * share)])
    const predicted = (await trainer.predict(sequences(of, 0, 2).x)).data
    return { losses, tested, predicted, sha: await trainer.paramsSha256(), stateBytes: trainer.stateBytes }
  })

let alone: Awaited<ReturnType<typeof train>>[number]
beforeAll(async () => {
  alone = (await train(1, {}))[0]!
})

describe.each<[number, string, Way]>([
  [4, 'pp 2 × tp 2', { pp: 2, tp: 2 }],
  [4, 'dp 2 × pp 2, zero 1', { pp: 2, zero: 1, microBatches: 2 }],
])('%i ranks, %s', (ranks, _, way) => {
  test('trains as one rank does', async () => {
    const all = await train(ranks, way)
    for (const { losses, tested, predicted, sha } of all) {
      expect(furthest(losses, alone.losses)).toBeLessThan(1e-4)
      expect(tested.loss).toBeCloseTo(alone.tested.loss, 4)
      expect(tested.samples).toBe(alone.tested.samples)
      expect(tested.accuracy).toBe(alone.tested.accuracy)
      predicted.forEach((score, i) => {
        expect(score).toBeCloseTo(alone.predicted[i]!, 3)
      })
      expect(sha).toBe(all[0]!.sha)
    }
    expect(alone.losses.at(-1)).toBeLessThan(alone.losses[0]! * 0.9)
  })
})

test('an embedding that is tied to the head, in the first stage and the last', async () => {
  const tied = { ...job, shape: { ...job.shape, tied: true } }
  const [one] = await train(1, {}, tied)
  const ranks = await train(2, { pp: 2 }, tied)
  for (const { losses, sha } of ranks) {
    expect(furthest(losses, one!.losses)).toBeLessThan(1e-4)
    expect(sha).toBe(ranks[0]!.sha)
  }
})

describe('refused, on every rank alike', () => {
  test.each<[string, number, Way, string]>([
    [
      'zero 2 in a pipeline',
      2,
      { pp: 2, zero: 2 },
      'zero is 2 in a pipeline: expected 0 or 1; 2 and 3 would exchange gradients or parameters for every micro-batch',
    ],
    ['zero 3 with tp', 2, { tp: 2, zero: 3 }, 'zero is 3 with tp 2: expected 0 or 1'],
    [
      'an optimizer that takes norms, with slices',
      4,
      { pp: 2, tp: 2, optimizer: clipByGlobalNorm(sgd(0.1), 1) },
      'takes norms over whole models, of which a rank holds slices with tp 2',
    ],
  ])('%s', async (_, ranks, way, message) => {
    for (const error of await failures(ranks, (world) => makeTrainer(world, job, way))) {
      expect(error.name).toBe('LockstepError')
      expect(error.message).toContain(message)
      expect(error.message).not.toContain('\n')
    }
  })
})
