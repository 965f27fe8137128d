/** Keeps TensorFlow.js from advising users of a compiler to install tfjs-node. Nothing else is silenced. */
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'

/** Call before the first tensor is made: the cpu backend prints its banner when it first writes one. */
export function quietTensorflow(): void {
  // tf.backend() starts the best backend there is; asked for by name, it would be made anew at its first use.
  const backend = tf.backend() as tf.KernelBackend & { firstUse?: boolean }
  if (backend.firstUse) backend.firstUse = false
}
