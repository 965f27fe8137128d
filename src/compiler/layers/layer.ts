/** What a layer written anew is: its call, over the same weights as TensorFlow.js' own. */
import * as tf from '@tensorflow/tfjs-core'
import type { layers } from '@tensorflow/tfjs-layers'

export type Layer = layers.Layer

/** A tensor uniform in [0, 1), drawn anew at every run of the step. */
export type Uniform = (shape: readonly number[]) => tf.Tensor

/** Who calls the layers: a recording, or TensorFlow.js eagerly. */
export interface LayerHost {
  /** The layers being called right now, outermost first. */
  readonly layers: string[]
  /** A tensor uniform in [0, 1), drawn anew at every run of the step. */
  random(shape: readonly number[], layer: string): tf.Tensor
  /** Set where kernels run as they are called: those of our own do not exist there. */
  readonly eager?: boolean
}

export interface CallContext {
  readonly training: boolean
  readonly eager: boolean
  readonly uniform: Uniform
}

/** A layer's output for its input; undefined: this configuration is left to TensorFlow.js. */
export type Call = (layer: Layer, input: tf.Tensor, context: CallContext) => tf.Tensor | undefined

/** Calls a kernel of our own (the last part of ops/index.ts) that returns several tensors. */
export function runOwn(kernel: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor[] {
  return tf.engine().runKernel(kernel, inputs as tf.NamedTensorMap, { ...attrs }) as tf.Tensor[]
}

/** x with the dimensions `axes` moved to the end, in their order, and the way back. */
export function movedLast(
  x: tf.Tensor,
  axes: readonly number[],
): [moved: tf.Tensor, back: (y: tf.Tensor) => tf.Tensor] {
  const others = x.shape.map((_, i) => i).filter((i) => !axes.includes(i))
  const perm = [...others, ...axes]
  if (perm.every((axis, i) => axis === i)) return [x, (y) => y]
  const inverse = perm.map((_, i) => perm.indexOf(i))
  return [tf.transpose(x, perm), (y) => tf.transpose(y, inverse)]
}
