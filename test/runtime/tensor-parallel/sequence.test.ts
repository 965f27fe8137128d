/**
 * Embeddings, head and loss shared by vocabulary, and activations between the blocks' halves by sequence: the training of
 * one rank, no logits on the links, and the bytes of paper.
 */
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { gptPlan } from '../../../src/models/gpt.js'
import { glorotFrom } from '../../../src/models/seeds.js'
import { sgd } from '../../../src/runtime/optimizers/index.js'
import type { SplitPlan } from '../../../src/runtime/tensor-parallel/plan.js'
import {
  furthest,
  type Job,
  makeTrainer,
  replicaOf,
  sequences,
  takeSteps,
  type Way,
} from '../parallel-gpt.js'
import { asRanks, failures, samples } from '../ranks.js'

const [vocabulary, context, width, depth, batch] = [24, 8, 16, 2, 4]
const job = (tied = false): Job => ({
  shape: { vocabulary, context, width, heads: 4, depth, tied },
  batch,
  steps: 4,
})

async function train(ranks: number, way: Way, of = job()) {
  return asRanks(ranks, async (world) => {
    const trainer = await makeTrainer(world, of, { optimizer: sgd(0.5), ...way })
    const losses = await takeSteps(world, trainer, { ...of, steps: of.steps - 1 })
    const before = world.collectives.bytesSent
    losses.push(...(await takeSteps(world, trainer, of)))
    const sent = world.collectives.bytesSent - before
    const { rank, size } = replicaOf(world, trainer)
    const share = batch / size
    const tested = await trainer.evaluate([sequences(of, rank * share, (rank + 1) * share)])
    return { losses, sent, tested, sha: await trainer.paramsSha256(), stateBytes: trainer.stateBytes }
  })
}

test.each<[string, number, Way, boolean]>([
  ['tp 2 by vocabulary', 2, { tp: 2, plan: gptPlan({ vocabulary: true }) }, false],
  ['tp 2 by vocabulary and sequence', 2, { tp: 2, plan: gptPlan({ sequence: true }) }, false],
  [
    'tp 2 by vocabulary and sequence, head tied',
    2,
    { tp: 2, plan: gptPlan({ sequence: true, tied: true }) },
    true,
  ],
  ['pp 2 × tp 2 by sequence', 4, { pp: 2, tp: 2, plan: gptPlan({ sequence: true }) }, false],
])('%s trains as one rank does', async (_, ranks, way, tied) => {
  const [alone] = await train(1, {}, job(tied))
  const all = await train(ranks, way, job(tied))
  for (const { losses, tested, sha } of all) {
    expect(furthest(losses, alone!.losses)).toBeLessThan(1e-4)
    expect(tested.loss).toBeCloseTo(alone!.tested.loss, 4)
    expect(tested.accuracy).toBe(alone!.tested.accuracy)
    expect(sha).toBe(all[0]!.sha)
  }
  expect(alone!.losses.at(-1)).toBeLessThan(alone!.losses[0]!)
})

test('what is sent: three numbers a token for the loss, and as much by sequence as by sums', async () => {
  const [bySums] = await train(2, { tp: 2, plan: gptPlan({ vocabulary: true }) })
  const tokens = batch * context
  const activations = 4 * tokens * width
  // Two sums a block and pass, one for the embedding, one for the head's input's gradient: with two ranks each sends its all.
  expect(bySums!.sent).toBe((4 * depth + 2) * activations + 3 * 4 * tokens)
  const [bySequence] = await train(2, { tp: 2, plan: gptPlan({ sequence: true }) })
  // Halves of sums: in a ring of two a rank sends half of the activations in each. Gathered: inputs of each block's two halves and of
  // the head, and gradients of their outputs and of the positions' own; summed: the outputs, and the inputs' gradients.
  const halves = 8 * depth + 3
  // Norms, and biases behind sums.
  const beside = 4 * (depth * 6 + 2) * width
  expect(bySequence!.sent).toBe((halves / 2) * activations + activations + 3 * 4 * tokens + beside)
})

function mlp() {
  const glorot = glorotFrom(2)
  const dense = (units: number, name: string, rest = {}) =>
    layers.dense({ units, name, kernelInitializer: glorot(), ...rest })
  return sequential({ layers: [dense(8, 'up', { inputShape: [6] }), dense(4, 'scores')] })
}

test.each<[string, SplitPlan, string, string]>([
  [
    'a loss that needs all classes on one rank',
    { scores: 'column' },
    'meanSquaredError',
    "the model's output scores would stay split by scores, and its loss is meanSquaredError: expected softmaxCrossEntropy",
  ],
  [
    'a vocabulary of something else',
    { up: 'vocabulary' },
    'softmaxCrossEntropy',
    'layer up (Dense) cannot be split by vocabulary: expected a tf.layers.embedding',
  ],
  [
    'a sequence of numbers',
    { up: 'sequence' },
    'softmaxCrossEntropy',
    'layer up cannot begin to split along the sequence: expected a whole input [batch, sequence, …], and it is [any,6]',
  ],
])('%s is an error of one line', async (_, plan, loss, message) => {
  const make = () => ({ tp: 2, plan, loss: loss as 'meanSquaredError', optimizer: sgd(0.1) })
  for (const error of await failures(2, (world) => world.tensorParallel(mlp(), make()))) {
    expect(error.message).toContain(message)
    expect(error.message).not.toContain('\n')
  }
})

test('one-hot labels, for a head that is split', async () => {
  const run = (tp: number) =>
    asRanks(tp, async (world) => {
      const split = {
        tp,
        plan: { scores: 'column' },
        loss: 'softmaxCrossEntropy',
        optimizer: sgd(0.1),
      } as const
      const trainer = await world.tensorParallel(mlp(), split)
      const { x, y } = samples(0, 4)
      const rows = new Float32Array(16)
      y.data.forEach((label, i) => {
        rows[4 * i + label] = 1
      })
      // Not all of a row's weight on one class, nor 1 in all.
      rows[1]! += 0.5
      const { loss } = await trainer.step(x, { data: rows, shape: [4, 4] })
      return loss
    })
  const [alone] = await run(1)
  for (const loss of await run(2)) expect(loss).toBeCloseTo(alone!, 5)
})

test('dropout between the blocks loses the same numbers as on one rank', async () => {
  const run = (tp: number) =>
    asRanks(tp, async (world) => {
      const glorot = glorotFrom(2)
      const dense = (units: number, name: string, rest = {}) =>
        layers.dense({ units, name, kernelInitializer: glorot(), ...rest })
      const [lost, again] = [layers.dropout({ rate: 0.5 }), layers.dropout({ rate: 0.25 })]
      const first = dense(8, 'first', { inputShape: [4, 6] })
      const model = sequential({
        layers: [first, lost, dense(8, 'up'), dense(8, 'down'), again, dense(4, 'scores')],
      })
      const plan = { first: 'sequence', up: 'column', down: 'row', scores: 'column' } as const
      const trainer = await world.tensorParallel(model, {
        ...{ tp, plan, loss: 'softmaxCrossEntropy', optimizer: sgd(0.5) },
      })
      const { x, y } = samples(0, 8)
      const losses: number[] = []
      for (let step = 0; step < 3; step++) {
        const [features, labels] = [
          { ...x, shape: [2, 4, 6] },
          { ...y, shape: [2, 4] },
        ]
        losses.push((await trainer.step(features, labels)).loss)
      }
      return losses
    })
  const [alone] = await run(1)
  for (const losses of await run(2)) expect(furthest(losses, alone!)).toBeLessThan(1e-4)
})
