/** Parameter counts and shapes of the models that Lockstep brings. Expected numbers: counts.py, by torch and torchvision. */
import * as tf from '@tensorflow/tfjs-core'
import { initializers, type LayersModel } from '@tensorflow/tfjs-layers'
import { describe, expect, test, vi } from 'vitest'
import { cnn, gpt, mlp, resnet18, resnet50 } from '../../src/index.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'

quietTensorflow()

// Drawing 25 million numbers takes seconds, and only their number matters here. He's and Glorot's share this class.
const varianceScaling = Object.getPrototypeOf(Object.getPrototypeOf(initializers.heNormal({})))
vi.spyOn(varianceScaling, 'apply').mockImplementation((shape) => tf.zeros(shape as number[]))

const imagenet = { inputShape: [224, 224, 3] as [number, number, number], classes: 1000 }

const models: [string, () => LayersModel, number, (number | null)[][]][] = [
  [
    'mlp',
    mlp,
    669_706,
    [
      [null, 28, 28, 1],
      [null, 10],
    ],
  ],
  [
    'cnn',
    cnn,
    1_199_882,
    [
      [null, 28, 28, 1],
      [null, 10],
    ],
  ],
  [
    'cnn with dropout',
    () => cnn({ dropout: 0.5 }),
    1_199_882,
    [
      [null, 28, 28, 1],
      [null, 10],
    ],
  ],
  [
    'resnet18, CIFAR stem, 10 classes',
    resnet18,
    11_173_962,
    [
      [null, 32, 32, 3],
      [null, 10],
    ],
  ],
  [
    'resnet50, CIFAR stem, 10 classes',
    resnet50,
    23_520_842,
    [
      [null, 32, 32, 3],
      [null, 10],
    ],
  ],
  [
    'resnet18, ImageNet, 1000 classes',
    () => resnet18(imagenet),
    11_689_512,
    [
      [null, 224, 224, 3],
      [null, 1000],
    ],
  ],
  [
    'resnet50, ImageNet, 1000 classes',
    () => resnet50(imagenet),
    25_557_032,
    [
      [null, 224, 224, 3],
      [null, 1000],
    ],
  ],
  [
    'gpt',
    gpt,
    470_528,
    [
      [null, 64],
      [null, 64, 256],
    ],
  ],
  [
    'gpt, 3 layers',
    () => gpt({ vocabulary: 65, context: 32, width: 48, heads: 3, depth: 3 }),
    92_688,
    [
      [null, 32],
      [null, 32, 65],
    ],
  ],
]

test.each(models)('%s', (_, make, parameters, [input, output]) => {
  const model = make()
  if (!model.built) model.build(model.inputs[0]!.shape)
  const counts = model.trainableWeights.map(({ shape }) => shape.reduce<number>((a, b) => a * b!, 1))
  expect(counts.reduce((a, b) => a + b, 0)).toBe(parameters)
  expect([model.inputs[0]!.shape, model.outputs[0]!.shape]).toEqual([input, output])
  model.dispose()
})

describe('gpt', () => {
  test.each([
    [256, 64, 128, 4, 2],
    [65, 32, 48, 3, 3],
    [10, 8, 16, 2, 1],
  ])('the formula of its documentation: V %i, T %i, w %i, %i heads, depth %i', (V, T, w, heads, depth) => {
    const model = gpt({ vocabulary: V, context: T, width: w, heads, depth })
    expect(model.countParams()).toBe(2 * V * w + T * w + depth * (12 * w ** 2 + 13 * w) + 2 * w)
    model.dispose()
  })
})
