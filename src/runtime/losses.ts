/** The losses that can be asked for by name: the mean over the batch's samples. One row a loss. */
import * as tf from '@tensorflow/tfjs-core'
import { metrics } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'

/** The mean loss of a batch: `labels` and `predictions` have the batch as first dimension. Must be a scalar. */
export type LossFunction = (labels: tf.Tensor, predictions: tf.Tensor) => tf.Tensor

/** Class numbers [batch] as one-hot rows [batch, classes]; such rows as they are. @throws LockstepError for others. */
function oneHot(labels: tf.Tensor, predictions: tf.Tensor): tf.Tensor {
  const { dtype, shape, rank } = labels
  if (dtype === 'int32' && rank === predictions.rank - 1)
    return tf.oneHot(labels as tf.Tensor1D, predictions.shape.at(-1)!)
  if (`${shape}` === `${predictions.shape}`) return labels
  const numbers = predictions.shape.slice(0, -1).join(', ')
  throw new LockstepError(
    `labels are ${dtype} of shape [${shape.join(', ')}]: expected class numbers, int32 of shape [${numbers}], ` +
      `or one-hot rows of shape [${predictions.shape.join(', ')}]`,
  )
}

const losses = {
  /** Of logits. Labels: class numbers (int32 [batch]) or one-hot rows. */
  softmaxCrossEntropy: (y, p) => tf.losses.softmaxCrossEntropy(oneHot(y, p), p),
  /** Of logits. Labels: 0 or 1, of the predictions' shape. */
  sigmoidCrossEntropy: (y, p) => tf.losses.sigmoidCrossEntropy(y, p),
  /** Of probabilities, as after a softmax layer. Labels: class numbers or one-hot rows. */
  categoricalCrossentropy: (y, p) => tf.mean(metrics.categoricalCrossentropy(oneHot(y, p), p)),
  meanSquaredError: (y, p) => tf.losses.meanSquaredError(y, p),
  absoluteDifference: (y, p) => tf.losses.absoluteDifference(y, p),
  huberLoss: (y, p) => tf.losses.huberLoss(y, p),
} satisfies Record<string, LossFunction>

export type LossName = keyof typeof losses

const classification: readonly string[] = ['softmaxCrossEntropy', 'categoricalCrossentropy']

export interface Loss {
  readonly name: string
  readonly compute: LossFunction
  /** True when predictions are scores per class, so that an accuracy exists and labels have a range. */
  readonly classifies: boolean
}

/** @throws LockstepError naming the known losses when `loss` is none of them. */
export function lossOf(loss: LossName | LossFunction): Loss {
  if (typeof loss === 'function') return { name: 'custom', compute: loss, classifies: false }
  if (!Object.hasOwn(losses, loss)) {
    const known = Object.keys(losses).join(', ')
    throw new LockstepError(
      `unknown loss ${JSON.stringify(loss)}: expected ${known}, or a function of (labels, predictions)`,
    )
  }
  return { name: loss, compute: losses[loss], classifies: classification.includes(loss) }
}
