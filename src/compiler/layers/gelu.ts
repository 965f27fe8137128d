/** TensorFlow.js' activation gelu_new as a kernel of our own, whichever layer applies it. */
import * as tf from '@tensorflow/tfjs-core'
import { run } from '../gradients/gradient.js'
import type { Layer } from './layer.js'

interface Activation {
  getClassName?(): string
  apply(x: tf.Tensor): tf.Tensor
}

const gelu = tf.customGrad((...args) => {
  const [x, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc]
  save([x])
  return {
    value: run('LockstepGelu', { x }, {}),
    gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => run('LockstepGeluGrad', { dy, x: saved[0]! }, {}),
  }
})

/** @returns what puts the layer's activation back. */
export function patchGelu(layer: Layer): () => void {
  const { activation } = layer as { activation?: Activation }
  if (activation?.getClassName?.() !== 'gelu_new') return () => {}
  activation.apply = gelu
  return () => Reflect.deleteProperty(activation, 'apply')
}
