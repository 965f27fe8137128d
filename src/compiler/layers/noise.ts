/** Noise layers over random inputs of the step, with the formulas of TensorFlow.js. */
import * as tf from '@tensorflow/tfjs-core'
import type { Call, Layer, Uniform } from './layer.js'

/** Standard normal numbers from uniform ones (Box & Muller 1958). */
function normal(uniform: Uniform, shape: number[]): tf.Tensor {
  const radius = tf.sqrt(tf.mul(tf.log(tf.sub(1, uniform(shape))), -2))
  return tf.mul(radius, tf.cos(tf.mul(uniform(shape), 2 * Math.PI)))
}

export const gaussianNoise: Call = (layer, input, { training, uniform }) => {
  if (!training) return undefined
  const { stddev } = layer as Layer & { stddev: number }
  return tf.add(input, tf.mul(normal(uniform, input.shape), stddev))
}

/** Multiplies with numbers of mean 1, and the variance that dropout's factors have. */
export const gaussianDropout: Call = (layer, input, { training, uniform }) => {
  const { rate } = layer as Layer & { rate: number }
  if (!training || rate <= 0 || rate >= 1) return undefined
  const deviation = Math.sqrt(rate / (1 - rate))
  return tf.mul(input, tf.add(tf.mul(normal(uniform, input.shape), deviation), 1))
}

const SELU_ALPHA = 1.6732632423543772
const SELU_SCALE = 1.0507009873554805

/** Sets to SELU's lowest value, then scales and shifts so that mean and variance stay (Klambauer et al. 2017). */
export const alphaDropout: Call = (layer, input, { training, uniform }) => {
  const { rate, noiseShape } = layer as Layer & { rate: number; noiseShape?: (number | null)[] }
  if (!training || rate <= 0 || rate >= 1) return undefined
  const shape = noiseShape?.map((n, i) => n ?? input.shape[i]!) ?? input.shape
  const lowest = -SELU_ALPHA * SELU_SCALE
  const scale = ((1 - rate) * (1 + rate * lowest ** 2)) ** -0.5
  const kept = tf.cast(tf.greaterEqual(uniform(shape), rate), 'float32')
  const x = tf.add(tf.mul(input, kept), tf.mul(tf.sub(1, kept), lowest))
  return tf.add(tf.mul(x, scale), -scale * lowest * rate)
}
