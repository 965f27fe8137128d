/** What the table of gradients holds: for one TensorFlow.js kernel, its gradient written in TensorFlow.js ops. */
import * as tf from '@tensorflow/tfjs-core'

export type Gradient = Omit<tf.GradConfig, 'kernelName'>

/** Gradients of a kernel's inputs, computed only where they are wanted. */
export type Gradients = Record<string, () => tf.Tensor>

/** A gradient of a kernel with one output. `save` names the inputs it needs, in the order it is given them. */
export function gradient<Attrs>(
  save: string[],
  of: (dy: tf.Tensor, saved: tf.Tensor[], attrs: Attrs) => Gradients,
): Gradient {
  return {
    inputsToSave: save,
    gradFunc: (dy, saved, attrs) => of(dy as tf.Tensor, saved, attrs as Attrs),
  }
}

/** Calls a kernel with attributes that its TensorFlow.js op does not pass on. */
export function run(kernel: string, inputs: Record<string, tf.Tensor>, attrs: object): tf.Tensor {
  return tf.engine().runKernel(kernel, inputs as tf.NamedTensorMap, { ...attrs }) as tf.Tensor
}

/** `x` summed over the dimensions along which `shape` was broadcast to its shape. */
export function sumTo(x: tf.Tensor, shape: number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes(shape, x.shape)
  return tf.reshape(axes.length > 0 ? tf.sum(x, axes) : x, shape)
}
