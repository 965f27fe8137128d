/**
 * Dropout over a random input of the step. TensorFlow.js draws its masks in JavaScript: a trace would freeze one for ever.
 */
import * as tf from '@tensorflow/tfjs-core'
import { LockstepError } from '../../errors.js'
import type { Call, Layer } from './layer.js'

/** Inverted dropout (Srivastava et al. 2014): keeps with probability 1 - rate, and scales what is kept. */
export const dropout: Call = (layer, input, { training, uniform }) => {
  if (!training) return undefined
  const { rate, noiseShape } = layer as Layer & { rate: number; noiseShape?: (number | null)[] }
  if (rate === 0) return input
  if (rate >= 1)
    throw new LockstepError(`layer ${layer.name} has a dropout rate of ${rate}: expected less than 1`)
  const shape = noiseShape?.map((n, i) => n ?? input.shape[i]!) ?? input.shape
  const kept = tf.cast(tf.greaterEqual(uniform(shape), rate), 'float32')
  return tf.mul(input, tf.div(kept, 1 - rate))
}
