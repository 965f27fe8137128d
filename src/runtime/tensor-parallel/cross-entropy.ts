/**
 * Softmax cross-entropy of logits of which each rank has those of some classes (Shoeybi et al. 2019, section 3): ranks exchange
 * three numbers a row, and never the logits.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { RankSums } from './sums.js'

/**
 * The mean over rows, as `softmaxCrossEntropy`.
 * @param labels class numbers (int32) or rows over all classes
 * @param logits [..., classes / ranks]
 */
export function splitCrossEntropy(labels: tf.Tensor, logits: tf.Tensor, sums: RankSums): tf.Tensor {
  const own = logits.shape.at(-1)!
  const rows = tf.reshape(logits, [-1, own])
  const { y, total } = ownLabels(labels, logits, sums)
  const centred = tf.sub(rows, sums.max(tf.max(rows, -1, true)))
  const both = tf.stack([tf.sum(tf.exp(centred), -1), tf.sum(tf.mul(y, centred), -1)])
  const [exponentials, labelled] = tf.unstack(sums.sum(both)) as [tf.Tensor, tf.Tensor]
  const logs = tf.log(exponentials)
  return tf.mean(tf.sub(total ? tf.mul(total, logs) : logs, labelled))
}

/** What the labels say of this rank's classes, a row for each of the logits', and their sum over all classes unless it is 1. */
function ownLabels(labels: tf.Tensor, logits: tf.Tensor, { rank, size }: RankSums) {
  const own = logits.shape.at(-1)!
  const first = rank * own
  if (labels.dtype === 'int32' && labels.rank === logits.rank - 1) {
    const classes = tf.tensor2d(
      Int32Array.from({ length: own }, (_, i) => first + i),
      [1, own],
      'int32',
    )
    return { y: tf.cast(tf.equal(tf.reshape(labels, [-1, 1]), classes), 'float32'), total: undefined }
  }
  const rows = tf.reshape(tf.cast(labels, 'float32'), [-1, own * size])
  return { y: tf.slice(rows, [0, first], [-1, own]), total: tf.sum(rows, -1) }
}
