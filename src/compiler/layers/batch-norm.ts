/** Batch normalization with kernels of its own: TensorFlow.js' training pass tiles the statistics to full size. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { BatchNormAttrs } from '../ops/batch-norm.js'
import { type Call, type Layer, runOwn } from './layer.js'

interface BatchNormLayer {
  readonly axis: number
  readonly epsilon: number
  readonly momentum: number
  /** Undefined for a layer without scale or centre. */
  readonly gamma?: LayerVariable
  readonly beta?: LayerVariable
  readonly movingMean: LayerVariable
  readonly movingVariance: LayerVariable
}

/** One kernel forward and one backward (../ops/batch-norm.ts), and the moving averages assigned as TensorFlow.js does. */
export const batchNormalization: Call = (given, input, { training }) => {
  if (!training) return undefined
  const layer = given as Layer & BatchNormLayer
  const axis = layer.axis < 0 ? layer.axis + input.rank : layer.axis
  if (axis !== input.rank - 1) return undefined
  const channels = input.shape[axis]!
  const gamma = layer.gamma?.read() ?? tf.ones([channels])
  const beta = layer.beta?.read() ?? tf.zeros([channels])
  const attrs: BatchNormAttrs = { epsilon: layer.epsilon }
  let statistics: readonly tf.Tensor[] = []
  const normalize = tf.customGrad((...args) => {
    const [x, g, b, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc]
    const [value, mean, variance, scale] = runOwn('LockstepBatchNorm', { x, gamma: g, beta: b }, attrs)
    statistics = [mean!, variance!]
    save([x, g, mean!, scale!])
    return {
      value: value!,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [x, gamma, mean, scale] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
        return runOwn('LockstepBatchNormGrad', { dy, x, gamma, mean, scale }, {})
      },
    }
  })
  const output = normalize(input, gamma, beta)
  ;[layer.movingMean, layer.movingVariance].forEach((average, i) => {
    const before = average.read()
    average.write(tf.sub(before, tf.mul(tf.sub(before, statistics[i]!), 1 - layer.momentum)))
  })
  return output
}
