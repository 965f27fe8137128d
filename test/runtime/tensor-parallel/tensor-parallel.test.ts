/** Ranks that share a model compute what one rank computes of the same global batches, and send what they should on paper. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import { GPT_PLAN, gpt } from '../../../src/models/gpt.js'
import { momentum } from '../../../src/runtime/optimizers/index.js'
import type { TensorParallelOptions } from '../../../src/runtime/tensor-parallel/tensor-parallel.js'
import { temporaryFolder } from '../checkpoint/temporary.js'
import { asRanks } from '../ranks.js'

const CONTEXT = 8
const WIDTH = 64
const BATCH = 4
const DEPTH = 2
const STEPS = 12
const small = (seed = 1) =>
  gpt({ vocabulary: 32, context: CONTEXT, width: WIDTH, heads: 4, depth: DEPTH, seed })

/** Sequences of step `step`: those of share `rank` of `size`. */
function batch(step: number, rank: number, size: number) {
  const rows = BATCH / size
  const token = (i: number) => ((step * 5 + i * 7) ^ (i >> 2)) % 32
  const from = rank * rows * CONTEXT
  const at = (offset: number) =>
    Int32Array.from({ length: rows * CONTEXT }, (_, i) => token(from + i + offset))
  const oneHot = new Float32Array(rows * CONTEXT * 32)
  at(1).forEach((word, i) => {
    oneHot[i * 32 + word] = 1
  })
  return { x: { data: at(0), shape: [rows, CONTEXT] }, y: { data: oneHot, shape: [rows, CONTEXT, 32] } }
}

type Options = Partial<TensorParallelOptions> & { readonly tp: number }

/** Trains on `ranks` ranks; what each of them saw. */
function train(ranks: number, options: Options, make: () => LayersModel = () => small()) {
  return asRanks(ranks, async (world) => {
    const model = make()
    const trainer = await world.tensorParallel(model, {
      plan: GPT_PLAN,
      loss: 'softmaxCrossEntropy',
      optimizer: momentum(0.05),
      ...options,
    })
    const dp = trainer.replica
    const losses: number[] = []
    let sent = 0
    for (let step = 0; step < STEPS; step++) {
      const { x, y } = batch(step, dp.rank, dp.size)
      const before = world.collectives.bytesSent
      const { loss } = await trainer.step(x, y)
      sent = world.collectives.bytesSent - before
      losses.push(loss)
    }
    const { x, y } = batch(0, dp.rank, dp.size)
    const { loss: evaluated } = await trainer.evaluate([{ x, y }])
    const predicted = (await trainer.predict(batch(1, 0, 4).x)).data
    const sha = await trainer.paramsSha256()
    const weights = model.weights.map((weight) => weight.read().dataSync() as Float32Array)
    return { losses, evaluated, predicted, sha, weights, sent, stateBytes: trainer.stateBytes }
  })
}

/** The largest difference, over the largest number. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  const [x, y] = [Array.from(a), Array.from(b)]
  const largest = Math.max(...y.map(Math.abs))
  return Math.max(...x.map((n, i) => Math.abs(n - y[i]!))) / largest
}

let alone: Awaited<ReturnType<typeof train>>[number]
beforeAll(async () => {
  alone = (await train(1, { tp: 1 }))[0]!
})

describe.each([
  [2, 2],
  [4, 4],
  [4, 2],
])('%i ranks, tp %i', (ranks, tp) => {
  let run: Awaited<ReturnType<typeof train>>
  beforeAll(async () => {
    run = await train(ranks, { tp })
  })

  test('train as one rank does, to 1e-4', () => {
    for (const { losses, evaluated, predicted, weights } of run) {
      expect(difference(losses, alone.losses)).toBeLessThan(1e-4)
      expect(predicted.every(Number.isFinite)).toBe(true)
      expect(difference(predicted, alone.predicted)).toBeLessThan(1e-4)
      expect(Math.abs(evaluated - alone.evaluated)).toBeLessThan(1e-4)
      weights.forEach((values, i) => {
        expect(difference(values, alone.weights[i]!)).toBeLessThan(1e-4)
      })
    }
    expect(alone.losses.at(-1)).toBeLessThan(alone.losses[0]!)
  })

  test('end with the same parameters on every rank', () => {
    expect(new Set(run.map(({ sha }) => sha)).size).toBe(1)
  })

  test('hold a share of the split weights with their gradients and optimizer state', () => {
    const split = DEPTH * 12 * WIDTH * WIDTH + DEPTH * 7 * WIDTH
    const saved = 3 * 4 * split * (1 - 1 / tp)
    for (const { stateBytes } of run) expect(alone.stateBytes - stateBytes).toBe(saved)
  })
  test('send four sums of activations a block, and the gradients of their own slices', () => {
    for (const { sent, stateBytes } of run) {
      const activations = (4 * BATCH * CONTEXT * WIDTH * tp) / ranks
      // Of what a rank holds, a third is gradients, with 16 numbers before them; as much are parameters, and momentum.
      const gradients = (stateBytes - 64) / 3 + 64
      const dp = ranks / tp
      const perSum = tp === 2 ? activations : 2 * activations
      expect(sent).toBe(4 * DEPTH * perSum + (2 * (dp - 1) * gradients) / dp)
    }
  })
})

test('checkpoints of any number of ranks, sharded or not, are gone on from on any other', async () => {
  const directory = await temporaryFolder()
  /** Trains from what `directory` holds up to `steps` steps. */
  const until = (steps: number, ranks: number, tp: number, zero: 0 | 1) =>
    asRanks(ranks, async (world) => {
      // Other weights on every machine: they come from the checkpoint.
      const model = small(steps === 2 ? 1 : ranks)
      const options = { plan: GPT_PLAN, loss: 'softmaxCrossEntropy', optimizer: momentum(0.05) } as const
      const trainer = await world.tensorParallel(model, { tp, zero, ...options })
      expect(await trainer.load(directory)).toEqual(
        steps === 2 ? undefined : { next: steps === STEPS ? 8 : steps - 2 },
      )
      const dp = trainer.replica
      while (trainer.stepCount < steps) {
        const { x, y } = batch(trainer.stepCount, dp.rank, dp.size)
        await trainer.step(x, y)
      }
      await trainer.save(directory, { next: steps }, { background: tp === 2 })
      await trainer.updateModel()
      return model.weights.map((weight) => weight.read().dataSync() as Float32Array)
    })
  await until(2, 2, 2, 0)
  await until(4, 4, 2, 1)
  await until(6, 1, 1, 0)
  await until(8, 4, 4, 0)
  const all = await until(STEPS, 2, 2, 0)
  for (const weights of all) {
    weights.forEach((values, i) => {
      expect(difference(values, alone.weights[i]!)).toBeLessThan(1e-4)
    })
  }
})
