/** The plans that come with models of images: two ranks train as one does, and hold and send what the planner says. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { CNN_PLAN, cnn } from '../../../src/models/cnn.js'
import { GPT_PLAN } from '../../../src/models/gpt.js'
import { MLP_PLAN, mlp } from '../../../src/models/mlp.js'
import { residualBlocks } from '../../../src/models/resnet.js'
import { momentum } from '../../../src/runtime/optimizers/index.js'
import { Estimator } from '../../../src/runtime/planner/estimate.js'
import { planFor } from '../../../src/runtime/planner/plan.js'
import type { SplitPlan } from '../../../src/runtime/tensor-parallel/plan.js'
import { asRanks, failures } from '../ranks.js'

const [BATCH, STEPS] = [4, 4]
const options = { loss: 'softmaxCrossEntropy', optimizer: momentum(0.01) } as const

function images(step: number, height = 28, channels = 1) {
  const size = BATCH * height * height * channels
  const data = Float32Array.from({ length: size }, (_, i) => ((i * 7919 + step * 101) % 256) / 256)
  const labels = Int32Array.from({ length: BATCH }, (_, i) => (3 * step + i) % 10)
  return { x: { data, shape: [BATCH, height, height, channels] }, y: { data: labels, shape: [BATCH] } }
}

function train(ranks: number, make: () => LayersModel, plan: SplitPlan) {
  return asRanks(ranks, async (world) => {
    const model = make()
    const trainer = await world.tensorParallel(model, { ...options, tp: ranks, plan })
    const losses: number[] = []
    let sent = 0
    for (let step = 0; step < STEPS; step++) {
      const { x, y } = images(step)
      const before = world.collectives.bytesSent
      losses.push((await trainer.step(x, y)).loss)
      sent = world.collectives.bytesSent - before
    }
    await trainer.updateModel()
    const weights = model.weights.map((weight) => weight.read().dataSync() as Float32Array)
    return { losses, weights, sent, state: trainer.stateBytes }
  })
}

describe.each<[string, () => LayersModel, SplitPlan, number]>([
  // One sum of 512 units an image; the rest of the model is whole.
  ['mlp', () => mlp({ seed: 1 }), MLP_PLAN, 4 * BATCH * 512],
  // One of 10 classes an image, and in the backward pass one of the 9216 numbers that the convolutions make.
  ['cnn', () => cnn({ seed: 1 }), CNN_PLAN, 4 * BATCH * (10 + 9216)],
])('%s on two ranks', (_, make, plan, sums) => {
  test('trains as on one, to 1e-4', async () => {
    const [alone] = await train(1, make, plan)
    const pair = await train(2, make, plan)
    for (const { losses, weights, sent } of pair) {
      losses.forEach((loss, step) => {
        expect(Math.abs(loss / alone!.losses[step]! - 1)).toBeLessThan(1e-4)
      })
      weights.forEach((values, i) => {
        const whole = alone!.weights[i]!
        const largest = values.reduce((most, value, at) => Math.max(most, Math.abs(value - whole[at]!)), 0)
        expect(largest).toBeLessThan(1e-4)
      })
      expect(sent).toBe(sums)
    }
    expect(alone!.losses.at(-1)).not.toBe(alone!.losses[0])
    const paper = new Estimator({ ...options, model: make(), plan, ...images(0) }, BATCH)
    const mesh = { dp: 1, pp: 1, tp: 2, zero: 0, microBatches: 1 } as const
    const { memory, bytesPerStep } = (await paper.estimate(mesh))!
    const { parameters, gradients, optimizer } = memory
    for (const [found, measured] of [
      [parameters + gradients + optimizer, pair[0]!.state],
      [bytesPerStep, pair[0]!.sent],
    ]) {
      expect(found! / measured!).toBeGreaterThan(0.85)
      expect(found! / measured!).toBeLessThan(1.15)
    }
    expect(pair[0]!.state).toBeLessThan(0.6 * alone!.state)
  })
})

test('a residual network has nothing to share, and a plan that says otherwise is an error', async () => {
  const nothing =
    /the plan names block\*_attention, and the model has no such layer, nor any to share: .* it has Conv2D, BatchNormalization, Dense; take world\.ddp with zero, or world\.pipeline$/
  for (const error of await failures(2, (world) =>
    world.tensorParallel(residualBlocks(), { ...options, tp: 2, plan: GPT_PLAN }),
  )) {
    expect(error.message).toMatch(nothing)
  }
  const subject = { ...options, model: residualBlocks(), plan: GPT_PLAN, ...images(0, 32, 16) }
  const planned = planFor('resnet.ts', subject, { ranks: 2, limit: 2 ** 40, batch: BATCH })
  await expect(planned).rejects.toThrow(/^plan: resnet\.ts: the plan names block/)
  await expect(planned).rejects.toThrow(nothing)
})
