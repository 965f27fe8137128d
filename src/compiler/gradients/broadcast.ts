/** Ops whose gradients TensorFlow.js leaves in the broadcast shape. */
import * as tf from '@tensorflow/tfjs-core'
import { type Gradient, type Gradients, sumTo } from './gradient.js'

/** TensorFlow.js' own gradient of `kernel`, summed to each input's shape; all its inputs are what it saves. */
export function summed(kernel: string): Gradient {
  const original = tf.getGradient(kernel)!
  const names = original.inputsToSave!
  return {
    inputsToSave: names,
    gradFunc: (dy, saved, attrs) => {
      const gradients = original.gradFunc(dy, saved, attrs) as Gradients
      return Object.fromEntries(
        names.map((name, i) => [name, () => sumTo(gradients[name]!(), saved[i]!.shape)]),
      )
    },
  }
}
