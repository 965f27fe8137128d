/** The orthogonal initialiser against TensorFlow.js' own, which is given the methods it misses. */
import * as tf from '@tensorflow/tfjs-core'
import { initializers, layers, sequential } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'

quietTensorflow()

const shapes = [
  [2, 5],
  [4, 3],
  [5, 5],
  [2, 2, 3],
  [1, 4],
  [16, 64],
]

const drawn = () =>
  shapes.map((shape) => [...initializers.orthogonal({ gain: 1.5, seed: 7 }).apply(shape).dataSync()])

test('the same weights as TensorFlow.js draws, and no method of tensors needed', async () => {
  const methods = {
    flatten: (x: tf.Tensor) => tf.reshape(x, [x.size]),
    stridedSlice: tf.stridedSlice,
    sign: tf.sign,
    transpose: tf.transpose,
    reshape: tf.reshape,
  } as Record<string, (...args: never[]) => tf.Tensor>
  const prototype = tf.Tensor.prototype as unknown as Record<string, unknown>
  for (const [name, op] of Object.entries(methods)) {
    prototype[name] = function (this: tf.Tensor, ...rest: never[]) {
      return op(...([this, ...rest] as never[]))
    }
  }
  const theirs = drawn()
  for (const name of Object.keys(methods)) delete prototype[name]
  expect(drawn).toThrow('flatten')

  await import('../../src/runtime/orthogonal.js')
  drawn().forEach((weights, i) => {
    expect(weights).toHaveLength(theirs[i]!.length)
    weights.forEach((weight, at) => {
      expect(weight).toBeCloseTo(theirs[i]![at]!, 5)
    })
  })
})

test('an LSTM with default initialisers is built in a moment', async () => {
  await import('../../src/runtime/orthogonal.js')
  const start = performance.now()
  sequential({ layers: [layers.lstm({ units: 128, inputShape: [8, 4] })] }).build([null, 8, 4])
  expect(performance.now() - start).toBeLessThan(4000)
})
