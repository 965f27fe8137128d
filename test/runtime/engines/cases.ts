/** Small models of every kind that engines are compared on, and the losses of a few steps of each. */
import * as tf from '@tensorflow/tfjs-core'
import {
  constraints,
  initializers,
  input,
  type LayersModel,
  layers,
  model,
  regularizers,
  sequential,
} from '@tensorflow/tfjs-layers'
import { fillUniform } from '../../../src/compiler/uniform.js'
import { gpt } from '../../../src/models/gpt.js'
import { glorotFrom } from '../../../src/models/seeds.js'
import type { DdpOptions } from '../../../src/runtime/ddp-options.js'
import type { FunctionalModel } from '../../../src/runtime/model.js'
import { adam, momentum } from '../../../src/runtime/optimizers/index.js'
import { asRanks } from '../ranks.js'

export interface Case {
  readonly make: () => LayersModel | FunctionalModel
  /** Of one sample. */
  readonly x: readonly number[]
  /** Of one sample: class numbers below `classes`. */
  readonly y: readonly number[]
  readonly classes: number
  /** Features are numbers below this; otherwise floats in [0, 1). */
  readonly tokens?: number
}

function image(pooling: 'max' | 'average', dropout: number): LayersModel {
  const glorot = glorotFrom(2)
  const pool = pooling === 'max' ? layers.maxPooling2d : layers.averagePooling2d
  return sequential({
    layers: [
      layers.conv2d({
        inputShape: [8, 8, 3],
        filters: 8,
        kernelSize: 3,
        activation: 'relu',
        kernelInitializer: glorot(),
      }),
      layers.conv2d({ filters: 16, kernelSize: 3, padding: 'same', kernelInitializer: glorot() }),
      // TensorFlow.js' cpu backend has the gradient of padded average-pooling wrong.
      pool({ poolSize: 3, strides: 2, padding: pooling === 'max' ? 'same' : 'valid' }),
      layers.flatten(),
      ...(dropout > 0 ? [layers.dropout({ rate: dropout })] : []),
      layers.dense({ units: 4, kernelInitializer: glorot() }),
    ],
  })
}

/** x + relu(norm(conv(x))), strided after, in batch normalization. */
function residual(): LayersModel {
  const glorot = glorotFrom(3)
  const conv = (filters: number, strides = 1) =>
    layers.conv2d({
      filters,
      kernelSize: 3,
      strides,
      padding: 'same',
      useBias: false,
      kernelInitializer: glorot(),
    })
  const x = input({ shape: [8, 8, 8] })
  const branch = layers
    .activation({ activation: 'relu' })
    .apply(layers.batchNormalization().apply(conv(8).apply(x)))
  const sum = layers.add().apply([x, branch as typeof x])
  const strided = layers.batchNormalization({ momentum: 0.9 }).apply(conv(16, 2).apply(sum))
  const pooled = layers.globalAveragePooling2d({}).apply(strided)
  const outputs = layers.dense({ units: 4, kernelInitializer: glorot() }).apply(pooled)
  return model({ inputs: x, outputs: outputs as typeof x })
}

function dense(): LayersModel {
  const glorot = glorotFrom(1)
  return sequential({
    layers: [
      layers.dense({
        inputShape: [12],
        units: 16,
        activation: 'relu',
        kernelInitializer: glorot(),
        kernelRegularizer: regularizers.l2({ l2: 0.01 }),
        kernelConstraint: constraints.maxNorm({ maxValue: 0.8 }),
      }),
      layers.dropout({ rate: 0.3 }),
      layers.gaussianNoise({ stddev: 0.1 }),
      layers.dense({ units: 4, kernelInitializer: glorot() }),
    ],
  })
}

function recurrent(): LayersModel {
  const glorot = glorotFrom(4)
  return sequential({
    layers: [
      layers.embedding({
        inputDim: 9,
        outputDim: 6,
        inputLength: 5,
        embeddingsInitializer: initializers.randomNormal({ mean: 0, stddev: 0.5, seed: 5 }),
      }),
      layers.lstm({
        units: 7,
        dropout: 0.2,
        kernelInitializer: glorot(),
        recurrentInitializer: glorot(),
      }),
      layers.dense({ units: 4, kernelInitializer: glorot() }),
    ],
  })
}

function functional(): FunctionalModel {
  const values = new Float32Array(48)
  fillUniform(values, [6])
  const w = tf.variable(tf.tensor(values, [12, 4]))
  const logits = (x: tf.Tensor) => tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D)
  return {
    params: { w },
    loss: ({ x, y }) => tf.losses.softmaxCrossEntropy(tf.oneHot(y as tf.Tensor1D, 4), logits(x)),
    predict: logits,
  }
}

export const cases: Readonly<Record<string, Case>> = {
  'dense layers, dropout, noise, a regulariser and a constraint': { make: dense, x: [12], y: [], classes: 4 },
  'convolutions and max-pooling': { make: () => image('max', 0.2), x: [8, 8, 3], y: [], classes: 4 },
  'convolutions and average-pooling': {
    make: () => image('average', 0),
    x: [8, 8, 3],
    y: [],
    classes: 4,
  },
  'a residual block with batch normalization': { make: residual, x: [8, 8, 8], y: [], classes: 4 },
  'a small GPT': {
    make: () => gpt({ vocabulary: 11, context: 6, width: 8, heads: 2, depth: 1 }),
    x: [6],
    y: [6],
    classes: 11,
    tokens: 11,
  },
  'an LSTM with dropout': { make: recurrent, x: [5], y: [], classes: 4, tokens: 9 },
  'a functional model': { make: functional, x: [12], y: [], classes: 4 },
}

const BATCH = 6
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The step's samples of one rank. */
export function batchOf({ x, y, classes, tokens }: Case, step: number, rank: number) {
  const features = new Float32Array(BATCH * sizeOf(x))
  fillUniform(features, [step, rank])
  const draws = new Float32Array(BATCH * sizeOf(y))
  fillUniform(draws, [step, rank, 1])
  const whole = (numbers: Float32Array, below: number) => Int32Array.from(numbers, (n) => n * below)
  return {
    x: { data: tokens === undefined ? features : whole(features, tokens), shape: [BATCH, ...x] },
    y: { data: whole(draws, classes), shape: [BATCH, ...y] },
  }
}

export interface Run {
  /** Of each step, then of an evaluation on two batches. */
  readonly losses: readonly number[]
  readonly predictions: readonly number[]
  readonly engine: string
}

/** Four steps of `size` ranks (the second after a micro-batch), an evaluation and a prediction; of rank 0. */
export async function train(given: Case, options: Partial<DdpOptions>, size = 1, steps = 4): Promise<Run> {
  const optimizer = size === 1 ? adam(0.01) : momentum(0.05)
  const [first] = await asRanks(size, async (world) => {
    const made = given.make()
    const loss =
      'loss' in made && typeof made.loss === 'function' ? {} : { loss: 'softmaxCrossEntropy' as const }
    const ddp = await world.ddp(made as LayersModel, { ...loss, optimizer, seed: 7, ...options })
    const losses: number[] = []
    for (let step = 0; step < steps; step++) {
      if (step === 1) {
        const { x, y } = batchOf(given, 100, world.rank)
        losses.push(await ddp.accumulate(x, y))
      }
      const { x, y } = batchOf(given, step, world.rank)
      losses.push((await ddp.step(x, y)).loss)
    }
    const batches = [batchOf(given, 200, world.rank), batchOf(given, 201, world.rank)]
    losses.push((await ddp.evaluate(batches)).loss)
    const predictions = [...(await ddp.predict(batches[0]!.x)).data]
    return { losses, predictions, engine: ddp.engine }
  })
  return first!
}
