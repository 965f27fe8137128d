/**
 * Dropout over random inputs of the step. TensorFlow.js draws its masks in JavaScript: a trace would freeze one for ever.
 */
import * as tf from '@tensorflow/tfjs-core'
import { LockstepError } from '../../errors.js'
import type { Call, Layer, Uniform } from './layer.js'

/** Inverted dropout (Srivastava et al. 2014): keeps with probability 1 - rate, and scales what is kept. */
export function droppedOut(x: tf.Tensor, rate: number, uniform: Uniform, shape = x.shape): tf.Tensor {
  const kept = tf.cast(tf.greaterEqual(uniform(shape), rate), 'float32')
  return tf.mul(x, tf.div(kept, 1 - rate))
}

type DropoutLayer = Layer & { readonly rate: number; readonly noiseShape?: readonly (number | null)[] }

/** Dropout whose masks have the shape that `shapeOf` says. */
const dropoutOf =
  (shapeOf: (layer: DropoutLayer, input: tf.Tensor) => number[]): Call =>
  (given, input, { training, uniform }) => {
    if (!training) return undefined
    const layer = given as DropoutLayer
    const { rate } = layer
    if (rate === 0) return input
    if (rate >= 1)
      throw new LockstepError(`layer ${layer.name} has a dropout rate of ${rate}: expected less than 1`)
    return droppedOut(input, rate, uniform, shapeOf(layer, input))
  }

export const dropout = dropoutOf(
  ({ noiseShape }, { shape }) => noiseShape?.map((n, i) => n ?? shape[i]!) ?? shape,
)

/** Whole channels of a sequence [batch, steps, channels] at once. */
export const spatialDropout1d = dropoutOf((_, { shape }) => [shape[0]!, 1, shape[2]!])
