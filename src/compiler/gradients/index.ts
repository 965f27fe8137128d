/**
 * Gradients that TensorFlow.js lacks or has wrong, one row each, and the patch that puts them in place during a training
 * step. Outside of it TensorFlow.js keeps its own.
 */
import * as tf from '@tensorflow/tfjs-core'
// Registers TensorFlow.js' gradient functions, which tfjs-core leaves out.
import '@tensorflow/tfjs-layers'
import { summed } from './broadcast.js'
import { convolutionGradients } from './convolution.js'
import type { Gradient } from './gradient.js'
import { indexingGradients } from './indexing.js'
import { rearrangeGradients } from './rearrange.js'

export type GradientTable = Readonly<Record<string, Gradient>>

/** For eager steps: without those that need what only the compiler's kernels can do (dilated gradients). */
export const eagerGradientTable: GradientTable = {
  BatchMatMul: summed('BatchMatMul'),
  Maximum: summed('Maximum'),
  Minimum: summed('Minimum'),
  SquaredDifference: summed('SquaredDifference'),
  ...indexingGradients,
  ...rearrangeGradients,
}

export const gradientTable: GradientTable = { ...eagerGradientTable, ...convolutionGradients }

/** Whether the compiler brings a gradient of its own for a kernel. */
export const hasOwnGradient = (kernel: string): boolean => Object.hasOwn(gradientTable, kernel)

/** Runs `body` with the gradients of `table`. */
export function withGradients<T>(table: GradientTable, body: () => T): T {
  const originals = Object.keys(table).map((kernelName) => tf.getGradient(kernelName))
  Object.entries(table).forEach(([kernelName, gradient], i) => {
    if (originals[i] !== undefined) tf.unregisterGradient(kernelName)
    tf.registerGradient({ kernelName, ...gradient })
  })
  try {
    return body()
  } finally {
    Object.keys(table).forEach((kernelName, i) => {
      tf.unregisterGradient(kernelName)
      const original = originals[i]
      if (original !== undefined) tf.registerGradient(original)
    })
  }
}
