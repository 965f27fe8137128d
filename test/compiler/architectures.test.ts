/** Whole models of many kinds on tiny shapes: loss and all gradients beside TensorFlow.js' cpu backend. */
import * as tf from '@tensorflow/tfjs-core'
import { input, type LayersModel, layers, metrics, model, type SymbolicTensor } from '@tensorflow/tfjs-layers'
import { describe, test } from 'vitest'
import { sizeOf } from '../../src/compiler/graph.js'
import { type Batch, compareModel, images, type Layer, type Loss, numbers, sequentialOf } from './models.js'

/** The default, orthogonal, needs the methods that only the whole @tensorflow/tfjs gives to tensors. */
const recurrentInitializer = 'glorotUniform'

const squares: Loss = (y, p) => tf.losses.meanSquaredError(y, p)
const binary: Loss = (y, p) => metrics.binaryCrossentropy(y, p)
const classes: Loss = (y, p) =>
  tf.losses.softmaxCrossEntropy(tf.oneHot(tf.cast(y, 'int32'), p.shape.at(-1)!), p)

const words = (batch: number, length: number, vocabulary: number): Batch['x'] => ({
  data: numbers(batch * length, 0, vocabulary).map(Math.floor),
  shape: [batch, length],
})
const labels = (shape: number[], count: number): Batch['y'] => ({
  data: numbers(sizeOf(shape), 0, count, 5).map(Math.floor),
  shape,
  dtype: 'float32',
})
const targets = (shape: number[]): Batch['y'] => ({
  data: numbers(sizeOf(shape), 0, 1, 5),
  shape,
  dtype: 'float32',
})

const apply = (layer: Layer, x: SymbolicTensor | SymbolicTensor[]) => layer.apply(x) as SymbolicTensor

describe('text', () => {
  test('classifier with embedding and lstm', () =>
    compareModel(
      sequentialOf(
        layers.embedding({ inputDim: 20, outputDim: 6, inputLength: 7 }),
        layers.lstm({ units: 5, recurrentInitializer }),
        layers.dense({ units: 1, activation: 'sigmoid' }),
      ),
      { x: words(4, 7, 20), y: labels([4, 1], 2) },
      binary,
    ))

  test('classifier with a masked embedding, a bidirectional gru and pooling', () => {
    const text = input({ shape: [6] })
    const vectors = apply(layers.embedding({ inputDim: 12, outputDim: 4, maskZero: true }), text)
    const gru = layers.gru({ units: 3, returnSequences: true, recurrentInitializer })
    const both = apply(layers.bidirectional({ layer: gru as never, mergeMode: 'concat' }), vectors)
    const scores = apply(layers.dense({ units: 3 }), apply(layers.globalMaxPooling1d({}), both))
    return compareModel(
      model({ inputs: text, outputs: scores }),
      { x: words(3, 6, 12), y: labels([3], 3) },
      classes,
    )
  })

  test('classifier with conv1d and max-pooling', () =>
    compareModel(
      sequentialOf(
        layers.embedding({ inputDim: 15, outputDim: 4, inputLength: 10 }),
        layers.conv1d({ filters: 6, kernelSize: 3, activation: 'relu' }),
        layers.maxPooling1d({ poolSize: 2 }),
        layers.conv1d({ filters: 5, kernelSize: 2, activation: 'relu', padding: 'same' }),
        layers.globalAveragePooling1d(),
        layers.dense({ units: 2, activation: 'softmax' }),
      ),
      { x: words(4, 10, 15), y: targets([4, 2]) },
      (y, p) => metrics.categoricalCrossentropy(y, p),
    ))

  test('a word predicted at every step by stacked recurrent layers', () =>
    compareModel(
      sequentialOf(
        layers.embedding({ inputDim: 9, outputDim: 4, inputLength: 5 }),
        layers.lstm({ units: 4, returnSequences: true, recurrentInitializer }),
        layers.simpleRNN({ units: 4, returnSequences: true, recurrentInitializer }),
        layers.timeDistributed({ layer: layers.dense({ units: 9 }) }),
      ),
      { x: words(2, 5, 9), y: labels([2, 5], 9) },
      classes,
    ))

  test('attention of a sequence to itself', () => {
    const text = input({ shape: [5, 4] })
    const projected = () => apply(layers.dense({ units: 4, useBias: false }), text)
    const scores = apply(layers.dot({ axes: [2, 2] }), [projected(), projected()])
    const weighted = apply(layers.dot({ axes: [2, 1] }), [
      apply(layers.softmax({ axis: -1 }), scores),
      projected(),
    ])
    const sum = apply(layers.layerNormalization(), apply(layers.add(), [text, weighted]))
    const batch = { x: images([2, 5, 4], -1, 1), y: targets([2, 5, 4]) }
    return compareModel(model({ inputs: text, outputs: sum }), batch, squares)
  })
})

describe('images', () => {
  test('autoencoder with transposed convolutions', () =>
    compareModel(
      sequentialOf(
        layers.conv2d({
          inputShape: [8, 8, 1],
          filters: 4,
          kernelSize: 3,
          strides: 2,
          padding: 'same',
          activation: 'relu',
        }),
        layers.conv2d({ filters: 6, kernelSize: 3, strides: 2, padding: 'same', activation: 'relu' }),
        layers.flatten(),
        layers.dense({ units: 5 }),
        layers.dense({ units: 24, activation: 'relu' }),
        layers.reshape({ targetShape: [2, 2, 6] }),
        layers.conv2dTranspose({
          filters: 4,
          kernelSize: 3,
          strides: 2,
          padding: 'same',
          activation: 'relu',
        }),
        layers.conv2dTranspose({
          filters: 1,
          kernelSize: 3,
          strides: 2,
          padding: 'same',
          activation: 'sigmoid',
        }),
      ),
      { x: images([2, 8, 8, 1]), y: targets([2, 8, 8, 1]) },
      binary,
    ))

  test('inverted residual of a mobile network', () => {
    const image = input({ shape: [6, 6, 4] })
    const normalized = (x: SymbolicTensor) =>
      apply(layers.reLU({ maxValue: 6 }), apply(layers.batchNormalization(), x))
    const wide = normalized(apply(layers.conv2d({ filters: 8, kernelSize: 1, useBias: false }), image))
    const mixed = normalized(
      apply(layers.depthwiseConv2d({ kernelSize: 3, padding: 'same', useBias: false }), wide),
    )
    const narrow = apply(layers.conv2d({ filters: 4, kernelSize: 1, useBias: false }), mixed)
    const sum = apply(layers.add(), [image, apply(layers.batchNormalization(), narrow)])
    const scores = apply(layers.dense({ units: 3 }), apply(layers.globalAveragePooling2d({}), sum))
    const batch = { x: images([3, 6, 6, 4], -1, 1), y: labels([3], 3) }
    return compareModel(model({ inputs: image, outputs: scores }), batch, classes)
  })

  test('segmentation: down, up and across', () => {
    const image = input({ shape: [8, 8, 2] })
    const conv = (filters: number, x: SymbolicTensor) =>
      apply(layers.separableConv2d({ filters, kernelSize: 3, padding: 'same', activation: 'relu' }), x)
    const fine = conv(4, image)
    const coarse = conv(6, apply(layers.maxPooling2d({ poolSize: 2 }), fine))
    const up = apply(layers.upSampling2d({ size: [2, 2], interpolation: 'bilinear' }), coarse)
    const both = conv(4, apply(layers.concatenate(), [up, fine]))
    const scores = apply(layers.conv2d({ filters: 3, kernelSize: 1 }), both)
    const batch = { x: images([2, 8, 8, 2], -1, 1), y: labels([2, 8, 8], 3) }
    return compareModel(model({ inputs: image, outputs: scores }), batch, classes)
  })

  test('film: volumes, then a recurrent layer over what their frames gave', () =>
    compareModel(
      sequentialOf(
        layers.conv3d({
          inputShape: [4, 6, 6, 1],
          filters: 3,
          kernelSize: 3,
          padding: 'same',
          activation: 'relu',
        }),
        layers.maxPooling3d({ poolSize: [1, 2, 2], strides: [1, 2, 2] }),
        layers.timeDistributed({ layer: layers.flatten() }),
        layers.gru({ units: 4, recurrentInitializer }),
        layers.dense({ units: 2 }),
      ),
      { x: images([2, 4, 6, 6, 1], -1, 1), y: labels([2], 2) },
      classes,
    ))

  test('frames through a recurrent convolution', () =>
    compareModel(
      sequentialOf(
        layers.convLstm2d({
          filters: 3,
          kernelSize: 2,
          inputShape: [3, 5, 5, 2],
          recurrentInitializer,
        } as Parameters<typeof layers.convLstm2d>[0]),
        layers.flatten(),
        layers.dense({ units: 2 }),
      ),
      { x: images([2, 3, 5, 5, 2], -1, 1), y: targets([2, 2]) },
      squares,
    ))
})

test('regression on a table: normalization, alpha of its own, deep and wide together', () => {
  const row = input({ shape: [7] })
  let deep = apply(layers.batchNormalization(), row)
  for (const units of [8, 6]) deep = apply(layers.prelu(), apply(layers.dense({ units }), deep))
  const joined = apply(layers.concatenate(), [deep, row])
  const net: LayersModel = model({ inputs: row, outputs: apply(layers.dense({ units: 1 }), joined) })
  return compareModel(net, { x: images([5, 7], -2, 2), y: targets([5, 1]) }, (y, p) =>
    tf.losses.huberLoss(y, p),
  )
})
