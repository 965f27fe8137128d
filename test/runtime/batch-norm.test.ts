/** Batch normalization in training: one step beside TensorFlow.js' cpu backend, and moving averages over ranks. */
import * as tf from '@tensorflow/tfjs-core'
import { layers, type Sequential, sequential } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { fillUniform } from '../../src/compiler/uniform.js'
import { glorotFrom } from '../../src/models/seeds.js'
import { sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks } from './ranks.js'

const loss = 'softmaxCrossEntropy'

/** conv → batch norm → ReLU → flatten → dense → batch norm → classes: rank 4 and rank 2. */
function model(options: { scale?: boolean; center?: boolean } = {}): Sequential {
  const glorot = glorotFrom(3)
  return sequential({
    layers: [
      layers.conv2d({ inputShape: [5, 5, 2], filters: 3, kernelSize: 3, kernelInitializer: glorot() }),
      layers.batchNormalization({ momentum: 0.9 }),
      layers.activation({ activation: 'relu' }),
      layers.flatten(),
      layers.dense({ units: 4, kernelInitializer: glorot() }),
      layers.batchNormalization({ epsilon: 0.01, ...options }),
      layers.dense({ units: 3, kernelInitializer: glorot() }),
    ],
  })
}

function batch(from: number, to: number) {
  const data = new Float32Array((to - from) * 50)
  for (let i = from; i < to; i++) fillUniform(data.subarray((i - from) * 50, (i - from + 1) * 50), [i])
  const labels = Int32Array.from({ length: to - from }, (_, i) => (from + i) % 3)
  return { x: { data, shape: [to - from, 5, 5, 2] }, y: { data: labels, shape: [to - from] } }
}

const weights = (m: Sequential) => m.getWeights().map((w) => [...w.dataSync()])

/** One step of gradient descent by TensorFlow.js itself. */
function eagerStep(m: Sequential, from: number, to: number): void {
  const { x, y } = batch(from, to)
  const variables = m.trainableWeights.map((w) => w.read() as tf.Variable)
  tf.tidy(() => {
    const { grads } = tf.variableGrads(() => {
      const logits = m.apply(tf.tensor(x.data, x.shape), { training: true }) as tf.Tensor
      return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(y.data, 'int32'), 3), logits) as tf.Scalar
    }, variables)
    for (const v of variables) v.assign(tf.sub(v, tf.mul(grads[v.name]!, 0.5)))
  })
}

function expectClose(actual: number[][], expected: number[][], tolerance: number): void {
  actual.forEach((tensor, t) => {
    tensor.forEach((n, i) => {
      expect(Math.abs(n - expected[t]![i]!)).toBeLessThan(tolerance)
    })
  })
}

describe('batch normalization', () => {
  test('three steps equal TensorFlow.js, weights and moving averages', async () => {
    const oracle = model()
    for (const step of [0, 1, 2]) eagerStep(oracle, step * 8, step * 8 + 8)
    await asRanks(1, async (world) => {
      const m = model()
      const ddp = await world.ddp(m, { loss, optimizer: sgd(0.5) })
      for (const step of [0, 1, 2]) {
        const { x, y } = batch(step * 8, step * 8 + 8)
        await ddp.step(x, y)
      }
      ddp.updateModel()
      expectClose(weights(m), weights(oracle), 2e-5)
      const { x } = batch(0, 4)
      const expected = oracle.predict(tf.tensor(x.data, x.shape)) as tf.Tensor
      expectClose([[...(await ddp.predict(x)).data]], [[...expected.dataSync()]], 1e-4)
    })
  })

  test('works without scale and centre', async () => {
    await asRanks(1, async (world) => {
      const ddp = await world.ddp(model({ scale: false, center: false }), { loss, optimizer: sgd(0.1) })
      const { x, y } = batch(0, 8)
      const first = (await ddp.step(x, y)).loss
      for (let i = 0; i < 20; i++) await ddp.step(x, y)
      expect((await ddp.step(x, y)).loss).toBeLessThan(first)
    })
  })

  test('ranks end with the same moving averages: the mean over all samples', async () => {
    const separate = await Promise.all(
      [0, 1].map(async (half) => {
        const [averages] = await asRanks(1, async (world) => {
          const m = model()
          const ddp = await world.ddp(m, { loss, optimizer: sgd(0) })
          const { x, y } = batch(half * 4, half === 0 ? 4 : 16)
          await ddp.step(x, y)
          ddp.updateModel()
          return weights(m)
        })
        return averages!
      }),
    )
    const together = await asRanks(2, async (world) => {
      const m = model()
      const ddp = await world.ddp(m, { loss, optimizer: sgd(0) })
      const { x, y } = batch(world.rank * 4, world.rank === 0 ? 4 : 16)
      await ddp.step(x, y)
      ddp.updateModel()
      return { weights: weights(m), sha: ddp.paramsSha256() }
    })
    expect(together[1]!.sha).toBe(together[0]!.sha)
    const expected = separate[0]!.map((tensor, t) =>
      tensor.map((n, i) => (4 * n + 12 * separate[1]![t]![i]!) / 16),
    )
    expectClose(together[0]!.weights, expected, 1e-6)
  })
})
