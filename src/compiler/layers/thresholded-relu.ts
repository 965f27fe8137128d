/** x where it exceeds theta, else 0: TensorFlow.js writes it with Greater, which has no gradient. */
import * as tf from '@tensorflow/tfjs-core'
import type { Call, Layer } from './layer.js'

export const thresholdedRelu: Call = (layer, input) => {
  const { theta } = layer as Layer & { theta: number }
  const mask = tf.customGrad((x) => ({
    value: tf.cast(tf.greater(x as tf.Tensor, theta), 'float32'),
    gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
  }))
  return tf.mul(input, mask(input))
}
