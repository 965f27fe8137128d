/** Layer normalization with kernels of its own: TensorFlow.js tiles the statistics to full size. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerNormAttrs } from '../ops/layer-norm.js'
import { type Call, type Layer, runOwn } from './layer.js'

interface LayerNormLayer {
  readonly axis: readonly number[]
  readonly epsilon: number
  /** Undefined for a layer without scale or centre. */
  readonly gamma?: LayerVariable
  readonly beta?: LayerVariable
}

/** Over the last dimension; other axes are left to TensorFlow.js. */
export const layerNormalization: Call = (given, input) => {
  const layer = given as Layer & LayerNormLayer
  if (layer.axis.length !== 1 || layer.axis[0] !== input.rank - 1) return undefined
  const width = input.shape.at(-1)!
  const gamma = layer.gamma?.read() ?? tf.ones([width])
  const beta = layer.beta?.read() ?? tf.zeros([width])
  const attrs: LayerNormAttrs = { epsilon: layer.epsilon }
  const normalize = tf.customGrad((...args) => {
    const [x, g, b, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc]
    const [value, mean, scale] = runOwn('LockstepLayerNorm', { x, gamma: g, beta: b }, attrs)
    save([x, g, mean!, scale!])
    return {
      value: value!,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [x, gamma, mean, scale] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
        return runOwn('LockstepLayerNormGrad', { dy, x, gamma, mean, scale }, {})
      },
    }
  })
  return normalize(input, gamma, beta)
}
