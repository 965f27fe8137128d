/** What a layer written anew is: its call, over the same weights as TensorFlow.js' own. */
import * as tf from '@tensorflow/tfjs-core'
import type { layers } from '@tensorflow/tfjs-layers'

export type Layer = layers.Layer

export interface CallContext {
  readonly training: boolean
  /** A tensor uniform in [0, 1), drawn anew at every run of the step. */
  uniform(shape: readonly number[]): tf.Tensor
}

/** A layer's output for its input; undefined: this configuration is left to TensorFlow.js. */
export type Call = (layer: Layer, input: tf.Tensor, context: CallContext) => tf.Tensor | undefined

/** Calls a kernel of our own (the last part of ops/index.ts) that returns several tensors. */
export function runOwn(kernel: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor[] {
  return tf.engine().runKernel(kernel, inputs as tf.NamedTensorMap, { ...attrs }) as tf.Tensor[]
}
