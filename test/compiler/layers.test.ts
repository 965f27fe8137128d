/** Layers, losses and the models of the package: loss and all gradients beside TensorFlow.js' cpu backend. */
import * as tf from '@tensorflow/tfjs-core'
import { layers, metrics } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { cnn } from '../../src/models/cnn.js'
import { mlp } from '../../src/models/mlp.js'
import { compare, fixed, floats, ints, type TensorFunction, values } from './harness.js'
import {
  type Batch,
  classes,
  compareModel,
  images,
  type Layer,
  type Loss,
  numbers,
  sequentialOf,
} from './models.js'

const squares: Loss = (y, p) => tf.losses.meanSquaredError(y, p)

const targets = (shape: number[]): Batch['y'] => ({
  data: numbers(
    shape.reduce((a, b) => a * b, 1),
    -1,
    1,
    3,
  ),
  shape,
  dtype: 'float32',
})

/** A model of `list` between a layer with weights and the loss, so that gradients flow through all of it. */
async function compareLayers(inputShape: number[], ...list: Layer[]): Promise<void> {
  const first =
    inputShape.length === 3
      ? layers.conv2d({
          inputShape,
          filters: 3,
          kernelSize: 3,
          padding: 'same',
          kernelInitializer: 'glorotNormal',
        })
      : layers.dense({ inputShape, units: 4, useBias: true, kernelInitializer: 'glorotNormal' })
  const model = sequentialOf(first, ...list)
  const batch = 2
  const output = model.outputs[0]!.shape.slice(1) as number[]
  await compareModel(
    model,
    { x: images([batch, ...inputShape], -1, 1), y: targets([batch, ...output]) },
    squares,
  )
}

describe('layers', () => {
  const onImages: Record<string, () => Layer[]> = {
    'conv2d with bias': () => [layers.conv2d({ filters: 2, kernelSize: 2, biasInitializer: 'randomNormal' })],
    'conv2d without bias, strided': () => [
      layers.conv2d({ filters: 2, kernelSize: 3, strides: 2, useBias: false }),
    ],
    'conv2d same, tanh': () => [
      layers.conv2d({ filters: 2, kernelSize: 4, padding: 'same', activation: 'tanh' }),
    ],
    'conv2d channels first': () => [
      layers.conv2d({ filters: 2, kernelSize: 3, dataFormat: 'channelsFirst' }),
    ],
    conv2dTranspose: () => [
      layers.conv2dTranspose({ filters: 2, kernelSize: 3, strides: 2, padding: 'same' }),
    ],
    maxPooling2d: () => [layers.maxPooling2d({ poolSize: 2 })],
    'maxPooling2d, overlapping, same': () => [
      layers.maxPooling2d({ poolSize: 3, strides: 2, padding: 'same' }),
    ],
    averagePooling2d: () => [layers.averagePooling2d({ poolSize: [2, 3] })],
    globalAveragePooling2d: () => [layers.globalAveragePooling2d({})],
    globalMaxPooling2d: () => [layers.globalMaxPooling2d({})],
    'flatten and dense': () => [layers.flatten(), layers.dense({ units: 3 })],
    'flatten channels first': () => [layers.flatten({ dataFormat: 'channelsFirst' })],
    reshape: () => [layers.reshape({ targetShape: [10, 9] })],
    permute: () => [layers.permute({ dims: [3, 1, 2] })],
    zeroPadding2d: () => [layers.zeroPadding2d({ padding: 1 })],
    batchNormalization: () => [layers.batchNormalization({ gammaInitializer: 'randomNormal' })],
    'batchNormalization and ReLU': () => [layers.batchNormalization(), layers.reLU()],
    'batchNormalization of vectors': () => [layers.flatten(), layers.batchNormalization()],
    layerNormalization: () => [layers.layerNormalization({ betaInitializer: 'randomNormal' })],
    'layerNormalization of vectors': () => [
      layers.flatten(),
      layers.layerNormalization({ epsilon: 0.1, gammaInitializer: 'randomNormal' }),
    ],
    'softmax over channels': () => [layers.softmax({ axis: -1 })],
    'reLU and pooling': () => [layers.reLU(), layers.maxPooling2d({ poolSize: 2, strides: 1 })],
  }
  const onVectors: Record<string, () => Layer[]> = {
    'dense, twice': () => [layers.dense({ units: 3, activation: 'relu' }), layers.dense({ units: 2 })],
    leakyReLU: () => [layers.leakyReLU({ alpha: 0.2 })],
    elu: () => [layers.elu()],
    prelu: () => [layers.prelu({ alphaInitializer: 'randomUniform' })],
    reLU: () => [layers.reLU({ maxValue: 1 })],
    repeatVector: () => [layers.repeatVector({ n: 3 })],
  }
  const activations = [
    'elu',
    'gelu',
    'gelu_new',
    'hardSigmoid',
    'linear',
    'mish',
    'relu',
    'relu6',
    'selu',
    'sigmoid',
    'softmax',
    'softplus',
    'softsign',
    'swish',
    'tanh',
  ] as const
  for (const [name, make] of Object.entries(onImages)) test(name, () => compareLayers([5, 6, 2], ...make()))
  for (const [name, make] of Object.entries(onVectors)) test(name, () => compareLayers([5], ...make()))
  for (const activation of activations) {
    test(`activation ${activation}`, () =>
      compareLayers([5], layers.activation({ activation: activation as 'relu' })))
    test(`dense ${activation}`, () =>
      compareLayers([5], layers.dense({ units: 3, activation: activation as 'relu' })))
  }
})

describe('losses', () => {
  const oneHot = values([1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0], [4, 3])
  const ofPredictions = (name: string, loss: Loss, labels = oneHot, low = -2, high = 2) =>
    test(name, () => compare([fixed(labels), floats([4, 3], low, high)], (y, p) => tf.mean(loss(y, p))))

  const { losses } = tf
  ofPredictions('softmaxCrossEntropy', (y, p) => losses.softmaxCrossEntropy(y, p))
  ofPredictions('softmaxCrossEntropy, smoothed', (y, p) => losses.softmaxCrossEntropy(y, p, undefined, 0.1))
  ofPredictions(
    'softmaxCrossEntropy of sure logits',
    (y, p) => losses.softmaxCrossEntropy(y, p),
    oneHot,
    -60,
    60,
  )
  ofPredictions('sigmoidCrossEntropy', (y, p) => losses.sigmoidCrossEntropy(y, p))
  ofPredictions(
    'sigmoidCrossEntropy of sure logits',
    (y, p) => losses.sigmoidCrossEntropy(y, p),
    oneHot,
    -60,
    60,
  )
  ofPredictions('meanSquaredError', (y, p) => losses.meanSquaredError(y, p))
  ofPredictions('absoluteDifference', (y, p) => losses.absoluteDifference(y, p))
  ofPredictions('huberLoss', (y, p) => losses.huberLoss(y, p))
  ofPredictions('hingeLoss', (y, p) => losses.hingeLoss(y, p))
  ofPredictions('cosineDistance', (y, p) => losses.cosineDistance(y, p, 1))
  ofPredictions('logLoss', (y, p) => losses.logLoss(y, p), oneHot, 0.05, 0.95)
  ofPredictions(
    'categoricalCrossentropy',
    (y, p) => metrics.categoricalCrossentropy(y, p),
    oneHot,
    0.05,
    0.95,
  )
  ofPredictions('binaryCrossentropy', (y, p) => metrics.binaryCrossentropy(y, p), oneHot, 0.05, 0.95)

  const labelled: TensorFunction = (y, p) =>
    tf.losses.softmaxCrossEntropy(tf.oneHot(y as unknown as tf.Tensor1D, 3), p)
  test('softmaxCrossEntropy of class numbers', () => compare([ints([4], 0, 3), floats([4, 3])], labelled))
  test('weighted by sample', () =>
    compare([fixed(oneHot), floats([4, 3]), fixed(values([1, 0, 2, 0.5], [4, 1]))], (y, p, w) =>
      losses.meanSquaredError(y, p, w),
    ))
  test('summed', () =>
    compare([fixed(oneHot), floats([4, 3])], (y, p) =>
      losses.absoluteDifference(y, p, undefined, tf.Reduction.SUM),
    ))
})

describe('models', () => {
  const logits: Loss = (y, p) => tf.losses.softmaxCrossEntropy(tf.oneHot(y as tf.Tensor1D, 10), p)
  const batch = (count: number): Batch => ({ x: images([count, 28, 28, 1]), y: classes(count, 10) })

  test('mlp', () => compareModel(mlp(), batch(8), logits))
  test('cnn', () => compareModel(cnn(), batch(2), logits))
  test('cnn and mlp have the parameters that they say', () => {
    const models = [cnn(), mlp()]
    expect(models.map((model) => model.countParams())).toEqual([1_199_882, 669_706])
    for (const model of models) model.dispose()
  })
})
