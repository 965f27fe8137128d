/** Reproducible initial weights: TensorFlow.js draws unseeded initialisers from Math.random. */
import { initializers } from '@tensorflow/tfjs-layers'

/**
 * A source of layers' initialisers as PyTorch's Linear and Conv2d have them: kernel and bias uniform in ±1/sqrt(fan-in).
 * Training stays the same over world sizes for far longer than with zero biases, where many units start at the kink of
 * ReLU: one sample that rounding pushes over it changes all of a unit's weights (docs/decisions.md).
 */
export function uniformFrom(seed: number) {
  let next = seed * 1000
  return (fanIn: number) => {
    const bound = 1 / Math.sqrt(fanIn)
    const uniform = () => initializers.randomUniform({ minval: -bound, maxval: bound, seed: ++next })
    return { kernelInitializer: uniform(), biasInitializer: uniform() }
  }
}
