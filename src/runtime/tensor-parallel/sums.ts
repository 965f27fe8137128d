/**
 * The two conjugate operators of tensor parallelism (Shoeybi et al. 2019, "Megatron-LM", f and g): where activations are
 * summed over the ranks, and where their gradients are.
 */
import * as tf from '@tensorflow/tfjs-core'
import { canExchange, exchanged } from '../../compiler/exchanges.js'
import { LockstepError } from '../../errors.js'

/** A sum over ranks of the numbers in `data`, in place. */
export type SumOverRanks = (data: Float32Array) => Promise<void>

/** g: the sum of all ranks' x; the gradient, which every rank has whole, passes as it is. `name`: of the layer. */
export function summed(x: tf.Tensor, sum: SumOverRanks, name: string): tf.Tensor {
  requireCompiled(name)
  const operator = tf.customGrad((x) => ({
    value: exchanged(x as tf.Tensor, { name, exchange: sum }),
    gradFunc: (dy: tf.Tensor) => dy,
  }))
  return operator(x)
}

/** f: x as it is, which every rank has whole; of its gradient each rank has a part, and gets the sum. */
export function summedGradient(x: tf.Tensor, sum: SumOverRanks, name: string): tf.Tensor {
  requireCompiled(name)
  const operator = tf.customGrad((x) => ({
    value: tf.clone(x as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => exchanged(dy, { name: `${name} (backward)`, exchange: sum }),
  }))
  return operator(x)
}

function requireCompiled(name: string): void {
  if (canExchange()) return
  throw new LockstepError(
    `layer ${name} is split over ranks, for which the model must be compiled, and this runs eagerly on TensorFlow.js: ` +
      'leave out engine tfjs',
  )
}
