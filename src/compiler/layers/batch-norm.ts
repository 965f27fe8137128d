/** Batch normalization with kernels of its own: TensorFlow.js' training pass tiles the statistics to full size. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { BatchNormAttrs } from '../ops/batch-norm.js'
import { type Call, type Layer, movedLast, runOwn } from './layer.js'

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

/**
 * Over all dimensions but one. In training one kernel forward and one backward (../ops/batch-norm.ts), and the moving
 * averages assigned as TensorFlow.js does; it has volumes, and other channels than the last, wrong or not at all.
 */
export const batchNormalization: Call = (given, input, { training, eager }) => {
  const layer = given as Layer & BatchNormLayer
  const axis = layer.axis < 0 ? layer.axis + input.rank : layer.axis
  const [x, back] = movedLast(input, [axis])
  const channels = x.shape.at(-1)!
  const gamma = layer.gamma?.read() ?? tf.ones([channels])
  const beta = layer.beta?.read() ?? tf.zeros([channels])
  if (training) return back(trained(layer, x, gamma, beta, eager ? composed : fused))
  const [mean, variance] = [layer.movingMean.read(), layer.movingVariance.read()] as [
    tf.Tensor1D,
    tf.Tensor1D,
  ]
  const image = x.rank <= 4 ? x : tf.reshape(x, [-1, channels])
  const y = tf.batchNorm(
    image as tf.Tensor4D,
    mean,
    variance,
    beta as tf.Tensor1D,
    gamma as tf.Tensor1D,
    layer.epsilon,
  )
  return back(tf.reshape(y, x.shape))
}

/** y, and the mean and variance of each channel. */
type Normalize = (
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  epsilon: number,
) => readonly [tf.Tensor, tf.Tensor, tf.Tensor]

function trained(
  layer: BatchNormLayer,
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  normalize: Normalize,
): tf.Tensor {
  const [output, ...statistics] = normalize(x, gamma, beta, layer.epsilon)
  ;[layer.movingMean, layer.movingVariance].forEach((average, i) => {
    const before = average.read()
    average.write(tf.sub(before, tf.mul(tf.sub(before, statistics[i]!), 1 - layer.momentum)))
  })
  return output
}

const fused: Normalize = (input, gamma, beta, epsilon) => {
  const attrs: BatchNormAttrs = { epsilon }
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
  return [output, statistics[0]!, statistics[1]!]
}

/** The same of TensorFlow.js' own ops. */
const composed: Normalize = (x, gamma, beta, epsilon) => {
  const { mean, variance } = tf.moments(
    x,
    x.shape.slice(0, -1).map((_, i) => i),
  )
  const scale = tf.mul(gamma, tf.rsqrt(tf.add(variance, epsilon)))
  return [tf.add(tf.mul(tf.sub(x, mean), scale), beta), mean, variance]
}
