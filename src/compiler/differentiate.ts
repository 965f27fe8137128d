/** TensorFlow.js' gradients of a loss, with errors that say what to do: the same while recording and eagerly. */
import * as tf from '@tensorflow/tfjs-core'
import { type GradientTable, withGradients } from './gradients/index.js'
import { UntraceableError } from './recorder.js'

/** The loss and its gradients by the variables' names; none for a variable that the loss does not depend on. */
export function gradientsOf(
  loss: () => tf.Tensor,
  trainable: readonly tf.Variable[],
  table: GradientTable,
): { readonly value: tf.Scalar; readonly grads: Readonly<Record<string, tf.Tensor | null>> } {
  try {
    return withGradients(table, () => tf.variableGrads(() => scalar(loss()), [...trainable]))
  } catch (cause) {
    const reason = gradientFailure((cause as Error).message)
    throw reason === undefined ? cause : new UntraceableError(reason, { cause })
  }
}

function scalar(loss: tf.Tensor): tf.Scalar {
  if (loss.rank === 0) return loss as tf.Scalar
  throw new UntraceableError(
    `the loss has shape [${loss.shape}]; a training step needs a scalar (take tf.mean)`,
  )
}

/** What to do about an error of TensorFlow.js' tape, which tells its errors apart by their messages only. */
function gradientFailure(message: string): string | undefined {
  const missing = /gradient function not found for (\w+)/.exec(message)?.[1]
  if (missing !== undefined) {
    return (
      `TensorFlow.js has no gradient of its op ${missing}, through which the loss depends on a trainable variable; ` +
      'use an op that has one'
    )
  }
  const wrong = /^Error in gradient for op (\w+)\./.exec(message)?.[1]
  if (wrong !== undefined) {
    return (
      `the gradient of op ${wrong} has another shape than the input that it belongs to: a tf.customGrad is wrong, or ` +
      "TensorFlow.js' own for inputs that broadcast; give them one shape first (tf.broadcastTo)"
    )
  }
  if (!message.startsWith('Cannot find a connection')) return undefined
  return 'the loss does not depend on any trainable variable: compute it from what the model returns'
}
