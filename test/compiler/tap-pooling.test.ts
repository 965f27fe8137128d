/** Max-pooling's gradient by taps, for providers that give no indices, beside the one from indices; both on the cpu. */
import * as tf from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { sizeOf } from '../../src/compiler/graph.js'
import { lower } from '../../src/compiler/lower.js'
import { Session } from '../../src/compiler/session.js'
import { simplify } from '../../src/compiler/simplify.js'
import { trace } from '../../src/compiler/trace.js'
import { numbers } from './models.js'

/** The gradient of the pooled values' weighted sum, for an image of small whole numbers: many maxima are shared. */
async function gradientOf(
  shape: readonly number[],
  pool: (x: tf.Tensor) => tf.Tensor,
  portable: boolean,
): Promise<number[]> {
  const data = numbers(sizeOf(shape), -2, 2).map(Math.round)
  const x = tf.variable(tf.tensor(data, [...shape]))
  const graph = trace({
    trainable: [x],
    frozen: [],
    layers: [],
    inputs: [],
    body: () => {
      const y = pool(x)
      return [tf.sum(tf.mul(y, tf.tensor(numbers(y.size, 0.5, 1.5, 3), y.shape)))]
    },
  })
  x.dispose()
  const lowered = lower(simplify(graph), undefined, portable)
  const session = await Session.create(lowered.onnx, { threads: 1 })
  const gradient = new Float32Array(data.length)
  session.bindInputs(new Map([[lowered.params[0]!, data]]))
  session.bindOutputs(
    new Map([
      [lowered.outputs[0]!, new Float32Array(1)],
      [lowered.outputs[1]!, gradient],
    ]),
  )
  await session.run()
  await session.release()
  return [...gradient]
}

const pool2d = (size: number, strides: number, pad: 'valid' | 'same') => (x: tf.Tensor) =>
  tf.maxPool(x as tf.Tensor4D, size, strides, pad)

test.each<[string, number[], (x: tf.Tensor) => tf.Tensor]>([
  ['windows side by side', [2, 6, 4, 3], pool2d(2, 2, 'valid')],
  ['windows that overlap and are padded', [2, 7, 5, 3], pool2d(3, 2, 'same')],
  ['windows with gaps, and pixels beyond the last', [1, 9, 8, 2], pool2d(2, 3, 'valid')],
  ['values after a ReLU', [2, 6, 6, 2], (x) => pool2d(3, 1, 'same')(tf.relu(x))],
  ['a volume', [1, 4, 5, 4, 2], (x) => tf.maxPool3d(x as tf.Tensor5D, 2, 2, 'same')],
])('%s', async (_, shape, pool) => {
  const byTaps = await gradientOf(shape, pool, true)
  const byIndices = await gradientOf(shape, pool, false)
  expect(byIndices.some((n) => n !== 0)).toBe(true)
  byTaps.forEach((n, i) => {
    expect(n).toBeCloseTo(byIndices[i]!, 5)
  })
})
