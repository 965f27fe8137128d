/** A multilayer perceptron for 28×28 images. */
import { layers, type Sequential, sequential } from '@tensorflow/tfjs-layers'
import { glorotFrom } from './seeds.js'

/** How ranks share the layers of `mlp` (world.tensorParallel): all but the last, a hundredth of its parameters; one sum a pass. */
export const MLP_PLAN = { hidden1: 'column', hidden2: 'row' } as const

/**
 * [batch, 28, 28, 1] → flatten 784 → 512 ReLU → 512 ReLU → logits [batch, classes]. 669,706 parameters for 10 classes.
 */
export function mlp({ seed = 0, classes = 10 } = {}): Sequential {
  const glorot = glorotFrom(seed)
  return sequential({
    layers: [
      layers.flatten({ inputShape: [28, 28, 1] }),
      layers.dense({ units: 512, activation: 'relu', kernelInitializer: glorot(), name: 'hidden1' }),
      layers.dense({ units: 512, activation: 'relu', kernelInitializer: glorot(), name: 'hidden2' }),
      layers.dense({ units: classes, kernelInitializer: glorot(), name: 'scores' }),
    ],
  })
}
