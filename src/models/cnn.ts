/** A small convolutional network for 28×28 images, after LeNet-5 (LeCun et al. 1998). */
import { layers, type Sequential, sequential } from '@tensorflow/tfjs-layers'
import { heFrom } from './seeds.js'

/**
 * How ranks share the layers of `cnn` (world.tensorParallel): the dense ones, 0.98 of its parameters. The convolutions, most of
 * its work, every rank computes for itself.
 */
export const CNN_PLAN = { hidden: 'column', scores: 'row' } as const

/**
 * [batch, 28, 28, 1] → conv 3×3 32 ReLU → conv 3×3 64 ReLU → max-pool 2 → flatten 9216 → 128 ReLU → (dropout) →
 * logits [batch, classes]. 1,199,882 parameters for 10 classes.
 * @param dropout rate before the last layer; 0 leaves the layer out.
 */
export function cnn({ seed = 0, classes = 10, dropout = 0 } = {}): Sequential {
  const he = heFrom(seed)
  return sequential({
    layers: [
      layers.conv2d({
        inputShape: [28, 28, 1],
        filters: 32,
        kernelSize: 3,
        activation: 'relu',
        kernelInitializer: he(),
      }),
      layers.conv2d({ filters: 64, kernelSize: 3, activation: 'relu', kernelInitializer: he() }),
      layers.maxPooling2d({ poolSize: 2 }),
      layers.flatten(),
      layers.dense({ units: 128, activation: 'relu', kernelInitializer: he(), name: 'hidden' }),
      ...(dropout > 0 ? [layers.dropout({ rate: dropout })] : []),
      layers.dense({ units: classes, kernelInitializer: he(), name: 'scores' }),
    ],
  })
}
