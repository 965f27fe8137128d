/** Layer normalization with kernels of its own: TensorFlow.js tiles the statistics to full size. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayerVariable } from '@tensorflow/tfjs-layers'
import type { LayerNormAttrs } from '../ops/layer-norm.js'
import { type Call, type Layer, movedLast, runOwn } from './layer.js'

interface LayerNormLayer {
  readonly axis: readonly number[]
  readonly epsilon: number
  /** Undefined for a layer without scale or centre. */
  readonly gamma?: LayerVariable
  readonly beta?: LayerVariable
}

/** Over any dimensions: they are moved to the end and taken as one. */
export const layerNormalization: Call = (given, input, { eager }) => {
  if (eager) return undefined
  const layer = given as Layer & LayerNormLayer
  const axes = layer.axis.map((axis) => (axis < 0 ? axis + input.rank : axis))
  const [moved, back] = movedLast(input, axes)
  const width = axes.reduce((size, axis) => size * input.shape[axis]!, 1)
  const rows = moved.shape.slice(0, input.rank - axes.length)
  const vector = (weight: LayerVariable | undefined) => weight && tf.reshape(weight.read(), [width])
  const gamma = vector(layer.gamma) ?? tf.ones([width])
  const beta = vector(layer.beta) ?? tf.zeros([width])
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
  const y = normalize(tf.reshape(moved, [...rows, width]), gamma, beta)
  return back(tf.reshape(y, moved.shape))
}
