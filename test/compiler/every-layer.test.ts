/** Every layer that TensorFlow.js has, in a small model: loss and all gradients, and the exported model, beside its cpu backend. */
import * as tf from '@tensorflow/tfjs-core'
import { input, type LayersModel, layers, model, type SymbolicTensor } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { sizeOf } from '../../src/compiler/graph.js'
import { compareExport } from './exported.js'
import { expectClose } from './harness.js'
import { type Batch, compareModel, compileModel, type Layer, type Loss, numbers } from './models.js'

const squares: Loss = (y, p) => tf.losses.meanSquaredError(y, p)

type Body = (x: SymbolicTensor, raw: SymbolicTensor) => SymbolicTensor
const BATCH = 2

/** `body` after a layer with weights, so that gradients flow through all of it; `raw` is what comes before. */
function network(inputShape: number[], body: Body): LayersModel {
  const raw = input({ shape: inputShape })
  const first =
    inputShape.length === 3
      ? layers.conv2d({ filters: 3, kernelSize: 1, kernelInitializer: 'glorotNormal' })
      : layers.dense({ units: inputShape.at(-1)!, kernelInitializer: 'glorotNormal' })
  const last = body(first.apply(raw) as SymbolicTensor, raw)
  return model({ inputs: raw, outputs: last })
}

function batchFor(of: LayersModel, x?: Float32Array): Batch {
  const shape = [BATCH, ...(of.inputs[0]!.shape.slice(1) as number[])]
  const output = [BATCH, ...(of.outputs[0]!.shape.slice(1) as number[])]
  return {
    x: { data: x ?? numbers(sizeOf(shape), -1, 1), shape },
    y: { data: numbers(sizeOf(output), -1, 1, 3), shape: output, dtype: 'float32' },
  }
}

const compareNetwork = async (inputShape: number[], body: Body) => {
  const network_ = network(inputShape, body)
  await compareExport(network_)
  await compareModel(network_, batchFor(network_), squares)
}

/** Constructors that were called by the tests: a layer that TensorFlow.js has and this table lacks is seen. */
const used = new Set<string>()
const made = new Proxy(layers, {
  get: (target, name: string) => {
    used.add(name)
    const make = Reflect.get(target, name) as (args: object) => Layer
    if (!/^(simpleRNN|gru|lstm|convLstm2d)/.test(name)) return make
    // The orthogonal initialiser needs the methods that only the whole @tensorflow/tfjs gives to tensors.
    return (args: object) => make({ recurrentInitializer: 'glorotNormal', ...args })
  },
})

/** x where it exceeds theta, from ops that have gradients. */
class ReluByStep extends layers.Layer {
  static className = 'ReluByStep'
  constructor(private readonly theta: number) {
    super({})
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const [x] = Array.isArray(inputs) ? inputs : [inputs]
    return tf.mul(x!, tf.step(tf.sub(x!, this.theta)))
  }
}

/** Each step of [batch, steps, …] so many times. */
class Repeat extends layers.Layer {
  static className = 'Repeat'
  constructor(private readonly times: number) {
    super({})
  }
  override computeOutputShape([batch, steps, ...rest]: number[]): number[] {
    return [batch!, steps! * this.times, ...rest]
  }
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    const [x] = Array.isArray(inputs) ? inputs : [inputs]
    const numbers = Array.from({ length: x!.shape[1]! * this.times }, (_, i) => Math.floor(i / this.times))
    return tf.gather(x!, numbers, 1)
  }
  override getConfig() {
    return { ...super.getConfig(), times: this.times }
  }
}

/** What a network's first layer gives, and the moving mean that its second takes off, in a shape that broadcasts. */
function normalizedBy(net: LayersModel, { x }: Batch, axis: number) {
  const first = net.layers[1]!
  const units = first.apply(tf.tensor(x.data, x.shape)) as tf.Tensor
  const [, , movingMean] = net.layers[2]!.getWeights()
  const shape = units.shape.map((n, i) => (i === axis ? n : 1))
  return { units, mean: tf.reshape(movingMean!, shape) }
}

/** One layer after another. */
const chain =
  (...make: (() => Layer)[]): Body =>
  (x) =>
    make.reduce((y, each) => each().apply(y) as SymbolicTensor, x)

const SEQUENCE = [5, 3]
const IMAGE = [6, 5, 2]
const VOLUME = [4, 4, 3, 2]

const table: Record<string, [inputShape: number[], body: Body]> = {
  // Activations
  activation: [[4], chain(() => made.activation({ activation: 'tanh' }))],
  elu: [[4], chain(() => made.elu())],
  leakyReLU: [[4], chain(() => made.leakyReLU())],
  prelu: [SEQUENCE, chain(() => made.prelu({ alphaInitializer: 'randomUniform', sharedAxes: [1] }))],
  reLU: [[4], chain(() => made.reLU())],
  softmax: [[4], chain(() => made.softmax())],

  // Convolutions
  conv1d: [
    SEQUENCE,
    chain(() => made.conv1d({ filters: 4, kernelSize: 3, padding: 'same', activation: 'relu' })),
  ],
  'conv1d, strided': [SEQUENCE, chain(() => made.conv1d({ filters: 2, kernelSize: 2, strides: 2 }))],
  conv2d: [IMAGE, chain(() => made.conv2d({ filters: 4, kernelSize: 3, activation: 'relu' }))],
  'conv2d, channels first': [
    IMAGE,
    chain(() => made.conv2d({ filters: 4, kernelSize: 3, dataFormat: 'channelsFirst', padding: 'same' })),
  ],
  conv2dTranspose: [IMAGE, chain(() => made.conv2dTranspose({ filters: 2, kernelSize: 3, strides: 2 }))],
  conv3d: [
    VOLUME,
    chain(() => made.conv3d({ filters: 3, kernelSize: 2, padding: 'same', activation: 'relu' })),
  ],
  'conv3d, strided': [VOLUME, chain(() => made.conv3d({ filters: 3, kernelSize: 2, strides: [2, 1, 2] }))],
  depthwiseConv2d: [
    IMAGE,
    chain(() =>
      made.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, padding: 'same', activation: 'relu' }),
    ),
  ],
  'depthwiseConv2d, strided': [IMAGE, chain(() => made.depthwiseConv2d({ kernelSize: 2, strides: 2 }))],
  separableConv2d: [
    IMAGE,
    chain(() => made.separableConv2d({ filters: 4, kernelSize: 3, activation: 'tanh' })),
  ],
  cropping2D: [
    IMAGE,
    chain(() =>
      made.cropping2D({
        cropping: [
          [1, 2],
          [0, 1],
        ],
      }),
    ),
  ],
  'upSampling2d, bilinear': [
    [4, 4, 2],
    chain(() => made.upSampling2d({ size: [2, 2], interpolation: 'bilinear' })),
  ],
  zeroPadding2d: [
    IMAGE,
    chain(() =>
      made.zeroPadding2d({
        padding: [
          [1, 0],
          [2, 1],
        ],
      }),
    ),
  ],

  // Core
  dense: [[4], chain(() => made.dense({ units: 3, activation: 'sigmoid' }))],
  'dense over sequences': [SEQUENCE, chain(() => made.dense({ units: 4, activation: 'relu' }))],
  flatten: [IMAGE, chain(() => made.flatten())],
  permute: [IMAGE, chain(() => made.permute({ dims: [2, 3, 1] }))],
  repeatVector: [[4], chain(() => made.repeatVector({ n: 3 }))],
  reshape: [IMAGE, chain(() => made.reshape({ targetShape: [3, 30] }))],

  // Merging
  add: [[4], (x, raw) => made.add().apply([x, raw]) as SymbolicTensor],
  average: [[4], (x, raw) => made.average().apply([x, raw]) as SymbolicTensor],
  concatenate: [IMAGE, (x, raw) => made.concatenate().apply([x, raw]) as SymbolicTensor],
  'concatenate along another axis': [
    SEQUENCE,
    (x, raw) => made.concatenate({ axis: 1 }).apply([x, raw]) as SymbolicTensor,
  ],
  dot: [[4], (x, raw) => made.dot({ axes: -1 }).apply([x, raw]) as SymbolicTensor],
  'dot, normalized': [
    [4],
    (x, raw) => made.dot({ axes: 1, normalize: true }).apply([x, raw]) as SymbolicTensor,
  ],
  'dot of sequences': [SEQUENCE, (x, raw) => made.dot({ axes: [2, 2] }).apply([x, raw]) as SymbolicTensor],
  maximum: [[4], (x, raw) => made.maximum().apply([x, raw]) as SymbolicTensor],
  minimum: [[4], (x, raw) => made.minimum().apply([x, raw]) as SymbolicTensor],
  multiply: [[4], (x, raw) => made.multiply().apply([x, raw]) as SymbolicTensor],

  // Normalization
  batchNormalization: [IMAGE, chain(() => made.batchNormalization())],
  'batchNormalization of sequences': [SEQUENCE, chain(() => made.batchNormalization())],
  layerNormalization: [IMAGE, chain(() => made.layerNormalization())],
  'layerNormalization of another axis': [SEQUENCE, chain(() => made.layerNormalization({ axis: 1 }))],
  'layerNormalization of all axes': [IMAGE, chain(() => made.layerNormalization({ axis: [1, 2, 3] }))],

  // Pooling
  averagePooling1d: [SEQUENCE, chain(() => made.averagePooling1d({ poolSize: 2 }))],
  averagePooling2d: [IMAGE, chain(() => made.averagePooling2d({ poolSize: 2 }))],
  averagePooling3d: [VOLUME, chain(() => made.averagePooling3d({ poolSize: [2, 2, 2], strides: [1, 2, 1] }))],
  globalAveragePooling1d: [SEQUENCE, chain(() => made.globalAveragePooling1d())],
  globalAveragePooling2d: [IMAGE, chain(() => made.globalAveragePooling2d({}))],
  'globalAveragePooling2d, channels first': [
    IMAGE,
    chain(() => made.globalAveragePooling2d({ dataFormat: 'channelsFirst' })),
  ],
  globalMaxPooling1d: [SEQUENCE, chain(() => made.globalMaxPooling1d({}))],
  globalMaxPooling2d: [IMAGE, chain(() => made.globalMaxPooling2d({}))],
  maxPooling1d: [SEQUENCE, chain(() => made.maxPooling1d({ poolSize: 2, padding: 'same' }))],
  maxPooling2d: [IMAGE, chain(() => made.maxPooling2d({ poolSize: [3, 2] }))],
  maxPooling3d: [VOLUME, chain(() => made.maxPooling3d({ poolSize: [2, 2, 2], strides: [1, 1, 1] }))],

  // Recurrent
  simpleRNN: [SEQUENCE, chain(() => made.simpleRNN({ units: 4 }))],
  gru: [SEQUENCE, chain(() => made.gru({ units: 4, recurrentActivation: 'sigmoid' }))],
  'gru, sequences, backwards': [
    SEQUENCE,
    chain(() => made.gru({ units: 4, returnSequences: true, goBackwards: true })),
  ],
  lstm: [SEQUENCE, chain(() => made.lstm({ units: 4 }))],
  'lstm, sequences, stacked': [
    SEQUENCE,
    chain(
      () => made.lstm({ units: 4, returnSequences: true, unitForgetBias: true }),
      () => made.lstm({ units: 3, activation: 'relu' }),
    ),
  ],
  'lstm, state': [
    SEQUENCE,
    (x) => {
      const [output, h, c] = made.lstm({ units: 3, returnState: true }).apply(x) as SymbolicTensor[]
      return made.concatenate().apply([output!, h!, c!]) as SymbolicTensor
    },
  ],
  'lstm, started from a state': [
    SEQUENCE,
    (x) => {
      const encoder = made.lstm({ units: 3, returnState: true })
      const [, h, c] = encoder.apply(x) as SymbolicTensor[]
      return made
        .lstm({ units: 3, returnSequences: true })
        .apply(x, { initialState: [h!, c!] }) as SymbolicTensor
    },
  ],
  'stacked cells': [
    SEQUENCE,
    chain(() =>
      made.rnn({
        cell: made.stackedRNNCells({
          cells: [made.simpleRNNCell({ units: 3 }), made.gruCell({ units: 4 }), made.lstmCell({ units: 2 })],
        }),
      } as unknown as Parameters<typeof layers.rnn>[0]),
    ),
  ],
  'rnn of a cell': [
    SEQUENCE,
    chain(() => made.rnn({ cell: made.gruCell({ units: 3 }), returnSequences: true })),
  ],
  ...Object.fromEntries(
    (['sum', 'mul', 'concat', 'ave'] as const).map((mergeMode) => [
      `bidirectional, ${mergeMode}`,
      [
        SEQUENCE,
        chain(() => made.bidirectional({ layer: made.gru({ units: 3, returnSequences: true }), mergeMode })),
      ] as [number[], Body],
    ]),
  ),
  'bidirectional lstm': [
    SEQUENCE,
    chain(() => made.bidirectional({ layer: made.lstm({ units: 3 }), mergeMode: 'concat' })),
  ],
  timeDistributed: [SEQUENCE, chain(() => made.timeDistributed({ layer: made.dense({ units: 2 }) }))],
  'timeDistributed of a convolution': [
    VOLUME,
    chain(() => made.timeDistributed({ layer: made.conv2d({ filters: 2, kernelSize: 2 }) })),
  ],
  convLstm2d: [VOLUME, chain(() => made.convLstm2d({ filters: 2, kernelSize: 2 }))],
  'convLstm2d, cell': [
    VOLUME,
    chain(() => made.convLstm2d({ filters: 2, kernelSize: 2, returnSequences: true, padding: 'same' })),
  ],

  // Preprocessing
  rescaling: [[4], chain(() => made.rescaling({ scale: 0.5, offset: 1 }))],
}

describe('every layer', () => {
  for (const [name, [inputShape, body]] of Object.entries(table))
    test(name, () => compareNetwork(inputShape, body))

  test('embedding with a mask, before an lstm', async () => {
    const words = input({ shape: [5] })
    const vectors = made.embedding({ inputDim: 7, outputDim: 3, maskZero: true }).apply(words)
    const text = model({ inputs: words, outputs: made.lstm({ units: 2 }).apply(vectors) as SymbolicTensor })
    await compareModel(text, batchFor(text, Float32Array.of(3, 1, 6, 6, 0, 2, 5, 0, 0, 0)), squares)
  })

  test('masking, before an lstm', async () => {
    const raw = input({ shape: SEQUENCE })
    const masked = made.masking({ maskValue: 0 }).apply(raw)
    const net = model({ inputs: raw, outputs: made.lstm({ units: 2 }).apply(masked) as SymbolicTensor })
    const x = numbers(BATCH * sizeOf(SEQUENCE), -1, 1).map((n, i) => (i > 8 && i < 15 ? 0 : n))
    await compareModel(net, batchFor(net, x), squares)
  })

  test('a layer used twice', () =>
    compareNetwork([4], (x, raw) => {
      const shared = layers.dense({ units: 3, activation: 'tanh' })
      return layers.add().apply([shared.apply(x), shared.apply(raw)] as SymbolicTensor[]) as SymbolicTensor
    }))

  test('a model in a model, used twice', () =>
    compareNetwork([4], (x, raw) => {
      const inner = network(
        [4],
        chain(() => layers.dense({ units: 3 })),
      )
      return layers.multiply().apply([inner.apply(x), inner.apply(raw)] as SymbolicTensor[]) as SymbolicTensor
    }))

  test('a frozen layer between trained ones', () =>
    compareNetwork([4], (x) => {
      const frozen = layers.dense({ units: 4, trainable: false })
      return layers.dense({ units: 2 }).apply(frozen.apply(x)) as SymbolicTensor
    }))

  test('layers that TensorFlow.js itself has wrong, beside others that say the same', async () => {
    const same = async (inputShape: number[], body: Body, oracleBody: Body) => {
      const [compiled, oracle] = [network(inputShape, body), network(inputShape, oracleBody)]
      const weights = oracle.getWeights().map(({ shape }, i) => tf.reshape(compiled.getWeights()[i]!, shape))
      oracle.setWeights(weights)
      await compareModel(compiled, batchFor(compiled), squares, oracle)
      tf.dispose(weights)
    }
    const normalized = () => layers.batchNormalization({ betaInitializer: 'randomNormal' })
    await same(
      IMAGE,
      chain(() => made.batchNormalization({ axis: 1, betaInitializer: 'randomNormal' })),
      chain(
        () => layers.permute({ dims: [2, 3, 1] }),
        normalized,
        () => layers.permute({ dims: [3, 1, 2] }),
      ),
    )
    await same(
      VOLUME,
      chain(normalized),
      chain(
        () => layers.reshape({ targetShape: [16, 3, 2] }),
        normalized,
        () => layers.reshape({ targetShape: VOLUME }),
      ),
    )
    await same(
      [4],
      chain(() => made.thresholdedReLU({ theta: 0.2 })),
      chain(() => new ReluByStep(0.2)),
    )
    await same(
      [4, 3, 2],
      chain(() => made.upSampling2d({ size: [2, 3] })),
      (x) => {
        const rows = layers.timeDistributed({ layer: new Repeat(3) }).apply(x)
        return new Repeat(2).apply(rows) as SymbolicTensor
      },
    )
    const flat = {
      filters: 3,
      strides: [1, 2, 2] as [number, number, number],
      biasInitializer: 'randomNormal' as const,
    }
    await same(
      [1, 3, 4, 2],
      chain(() => made.conv3dTranspose({ ...flat, kernelSize: [1, 3, 2] })),
      chain(
        () => layers.reshape({ targetShape: [3, 4, 2] }),
        () => layers.conv2dTranspose({ ...flat, strides: 2, kernelSize: [3, 2] }),
        () => layers.reshape({ targetShape: [1, 7, 8, 3] }),
      ),
    )
  })

  test('batch normalization of any axis, switched to its moving averages', async () => {
    for (const [shape, axis] of [
      [IMAGE, 1],
      [IMAGE, 3],
      [VOLUME, 4],
    ] as const) {
      const net = network(
        [...shape],
        chain(() => layers.batchNormalization({ axis, movingMeanInitializer: 'randomNormal' })),
      )
      const batch = batchFor(net)
      const program = await compileModel(net, batch, squares, false)
      const { predictions } = await program.run()
      await program.release()
      const expected = tf.tidy(() => {
        const { units, mean } = normalizedBy(net, batch, axis)
        return Float32Array.from(tf.div(tf.sub(units, mean), Math.sqrt(1.001)).dataSync())
      })
      expectClose(predictions, expected, 'predictions')
      net.dispose()
    }
  })

  /** Layers that are compared elsewhere, or not at all. */
  const elsewhere: Record<string, string> = {
    inputLayer: 'computes nothing',
    input: 'computes nothing',
    Layer: 'the base class',
    RNN: 'the base class',
    RNNCell: 'the base class',
    dropout: 'random: random-layers.test.ts',
    spatialDropout1d: 'random: random-layers.test.ts',
    gaussianNoise: 'random: random-layers.test.ts',
    gaussianDropout: 'random: random-layers.test.ts',
    alphaDropout: 'random: random-layers.test.ts',
    randomWidth: 'random shapes: refused',
    categoryEncoding: 'reads the values of its input: refused',
    centerCrop: 'CropAndResize is not covered: cropping2D does the same',
    resizing: 'fails in TensorFlow.js inside of a model',
    convLstm2dCell: 'inside convLstm2d',
  }

  test('no layer is forgotten', () => {
    const aliases =
      /^(avgPool|avgPooling|maxPool|maxPooling|globalMaxPool|globalMaxPooling|globalAveragePooling)/
    const names = Object.keys(layers).filter((name) => !aliases.test(name) || name in table)
    expect(names.filter((name) => !used.has(name) && !(name in elsewhere))).toEqual([])
  })
})
