/** Noise layers and dropout inside of recurrent cells: drawn anew for every key, with the moments that they promise. */
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers } from '@tensorflow/tfjs-layers'
import { afterEach, describe, expect, test } from 'vitest'
import { trace } from '../../src/compiler/trace.js'
import { type Batch, type Compiled, compileModel, type Layer, sequentialOf } from './models.js'

const open: { release(): unknown; model: LayersModel }[] = []
afterEach(async () => {
  for (const { release, model } of open.splice(0)) {
    await release()
    model.dispose()
  }
})

/** The sum of a model's outputs, trained: a scale of one per column before the layers, where they are not recurrent. */
async function compiled(shape: number[], list: readonly Layer[], training = true): Promise<Compiled> {
  const model = sequentialOf(layers.inputLayer({ inputShape: shape.slice(1) }), ...list)
  const size = shape.reduce((a, b) => a * b, 1)
  const batch: Batch = {
    x: { data: new Float32Array(size).fill(1), shape },
    y: { data: new Float32Array(1), shape: [1], dtype: 'float32' },
  }
  const program = await compileModel(model, batch, (_, p) => tf.sum(p), training)
  open.push({ release: program.release, model })
  return program
}

/** A weight to train that changes nothing. */
const identity = (units: number) =>
  layers.dense({ units, kernelInitializer: 'identity', biasInitializer: 'zeros' })

const mean = (x: Float32Array) => x.reduce((a, b) => a + b, 0) / x.length
const variance = (x: Float32Array) => mean(x.map((n) => (n - mean(x)) ** 2))

const SHAPE = [200, 50]
/** Five standard errors of a mean of 10,000 numbers with variance 1. */
const CLOSE = 0.05

describe('noise layers', () => {
  test('gaussianNoise adds noise of its deviation', async () => {
    const program = await compiled(SHAPE, [identity(50), layers.gaussianNoise({ stddev: 0.5 })])
    const { predictions } = await program.run([1])
    expect(Math.abs(mean(predictions) - 1)).toBeLessThan(CLOSE)
    expect(Math.abs(variance(predictions) - 0.25)).toBeLessThan(CLOSE)
    expect(predictions.every(Number.isFinite)).toBe(true)
  })

  test("gaussianDropout multiplies with noise of dropout's variance", async () => {
    const program = await compiled(SHAPE, [identity(50), layers.gaussianDropout({ rate: 0.2 })])
    const { predictions } = await program.run([1])
    expect(Math.abs(mean(predictions) - 1)).toBeLessThan(CLOSE)
    expect(Math.abs(variance(predictions) - 0.25)).toBeLessThan(CLOSE)
  })

  test('alphaDropout has two values, in proportion, as TensorFlow.js computes them', async () => {
    const rate = 0.3
    const program = await compiled(SHAPE, [identity(50), layers.alphaDropout({ rate })])
    const { predictions } = await program.run([1])
    const lowest = -1.0507009873554805 * 1.6732632423543772
    const scale = ((1 - rate) * (1 + rate * lowest ** 2)) ** -0.5
    const [dropped, kept] = [scale * lowest - scale * lowest * rate, scale - scale * lowest * rate]
    const isKept = predictions.map((x) => Number(Math.abs(x - kept) < 1e-5))
    predictions.forEach((x, i) => {
      expect(Math.abs(x - (isKept[i] ? kept : dropped))).toBeLessThan(1e-5)
    })
    expect(Math.abs(mean(isKept) - 0.7)).toBeLessThan(CLOSE)
  })

  test('spatialDropout1d drops whole channels of a sequence', async () => {
    const [batch, steps, channels] = [20, 7, 50] as const
    const program = await compiled(
      [batch, steps, channels],
      [
        identity(channels),
        layers.spatialDropout1d({ rate: 0.4 } as Parameters<typeof layers.spatialDropout1d>[0]),
      ],
    )
    const { predictions } = await program.run([1])
    for (let b = 0; b < batch; b++) {
      const step = (t: number) =>
        predictions.slice((b * steps + t) * channels, (b * steps + t + 1) * channels)
      for (let t = 1; t < steps; t++) expect(step(t)).toEqual(step(0))
    }
    const kept = predictions.map((x) => Number(x !== 0))
    expect(Math.abs(mean(kept) - 0.6)).toBeLessThan(3 * CLOSE)
  })

  const noisy: Record<string, () => Layer> = {
    gaussianNoise: () => layers.gaussianNoise({ stddev: 1 }),
    gaussianDropout: () => layers.gaussianDropout({ rate: 0.5 }),
    alphaDropout: () => layers.alphaDropout({ rate: 0.5 }),
  }
  for (const [name, make] of Object.entries(noisy)) {
    test(`${name} is drawn anew for each key, and off in evaluation`, async () => {
      const program = await compiled([4, 6], [identity(6), make()])
      const [one, other, again] = [await program.run([1]), await program.run([2]), await program.run([1])]
      expect(again.predictions).toEqual(one.predictions)
      expect(other.predictions).not.toEqual(one.predictions)
      const evaluation = await compiled([4, 6], [identity(6), make()], false)
      expect((await evaluation.run([1])).predictions).toEqual(new Float32Array(24).fill(1))
    })
  }
})

const cellArgs = {
  units: 8,
  kernelInitializer: 'glorotNormal',
  recurrentInitializer: 'glorotNormal',
  dropout: 0.5,
  recurrentDropout: 0.5,
} as const

describe('dropout inside of recurrent layers', () => {
  const recurrent: Record<string, () => Layer> = {
    simpleRNN: () => layers.simpleRNN(cellArgs),
    gru: () => layers.gru(cellArgs),
    lstm: () => layers.lstm(cellArgs),
    bidirectional: () => layers.bidirectional({ layer: layers.gru(cellArgs) as never, mergeMode: 'concat' }),
    'cells in an rnn': () =>
      layers.rnn({
        cell: layers.stackedRNNCells({ cells: [layers.gruCell(cellArgs), layers.simpleRNNCell(cellArgs)] }),
      } as unknown as Parameters<typeof layers.rnn>[0]),
  }
  for (const [name, make] of Object.entries(recurrent)) {
    test(`${name}: drawn anew for each key, and off in evaluation`, async () => {
      const program = await compiled([3, 4, 6], [make()])
      const [one, other, again] = [await program.run([1]), await program.run([2]), await program.run([1])]
      expect(again.predictions).toEqual(one.predictions)
      expect(again.gradients).toEqual(one.gradients)
      expect(other.predictions).not.toEqual(one.predictions)
      const evaluation = await compiled([3, 4, 6], [make()], false)
      expect((await evaluation.run([1])).predictions).toEqual((await evaluation.run([2])).predictions)
    })
  }

  test('a mask is the same at every step, and keeps 1 - rate of the inputs', async () => {
    // One step of a linear cell without recurrence: each unit is the sum of what its row kept, scaled.
    const args = {
      units: 1,
      activation: 'linear',
      kernelInitializer: 'ones',
      useBias: false,
      dropout: 0.25,
    } as const
    const zero = { recurrentInitializer: 'zeros', returnSequences: true } as const
    const program = await compiled([100, 5, 40], [layers.simpleRNN({ ...args, ...zero })])
    const { predictions } = await program.run([1])
    for (let b = 0; b < 100; b++) {
      for (let t = 1; t < 5; t++) expect(predictions[b * 5 + t]).toBe(predictions[b * 5])
    }
    expect(Math.abs(mean(predictions) / 40 - 1)).toBeLessThan(CLOSE)
    expect(variance(predictions)).toBeGreaterThan(0)
  })

  test('cells are as before after a trace', () => {
    const lstm = layers.lstm(cellArgs)
    const model = sequentialOf(layers.inputLayer({ inputShape: [4, 6] }), lstm)
    const { cell } = lstm as unknown as { cell: Record<string, unknown> }
    tf.tidy(() => model.apply(tf.ones([2, 4, 6]), { training: true }) as tf.Tensor)
    const before = { ...cell }
    const tensors = tf.memory().numTensors
    trace({
      trainable: model.trainableWeights.map((weight) => weight.read() as tf.Variable),
      frozen: [],
      layers: [model],
      inputs: [{ shape: [2, 4, 6], dtype: 'float32' }],
      body: ([x]) => [tf.mean(model.apply(x!, { training: true }) as tf.Tensor)],
    })
    expect({ ...cell }).toEqual(before)
    expect(tf.memory().numTensors).toBe(tensors)
    model.dispose()
  })

  test('a stateful layer is refused', async () => {
    const args = {
      units: 2,
      stateful: true,
      recurrentInitializer: 'zeros',
      name: 'memory',
      batchInputShape: [2, 4, 3],
    } as const
    const model = sequentialOf(layers.gru(args as unknown as Parameters<typeof layers.gru>[0]))
    const batch: Batch = {
      x: { data: new Float32Array(24), shape: [2, 4, 3] },
      y: { data: new Float32Array(4), shape: [2, 2], dtype: 'float32' },
    }
    await expect(compileModel(model, batch, (_, p) => tf.sum(p))).rejects.toThrow(
      /^layer memory is stateful: it keeps its state in JavaScript from batch to batch/,
    )
    model.dispose()
  })
})
