/** Layers models in the harness: their weights are the arguments of the compared function. */
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, type layers, sequential } from '@tensorflow/tfjs-layers'
import { type Numbers, sizeOf } from '../../src/compiler/graph.js'
import { Program } from '../../src/compiler/program.js'
import { expectClose, ints, largestOf } from './harness.js'

export type Layer = layers.Layer
export type Loss = (labels: tf.Tensor, predictions: tf.Tensor) => tf.Tensor

export interface Batch {
  readonly x: { readonly data: Float32Array; readonly shape: number[] }
  readonly y: { readonly data: Numbers; readonly shape: number[]; readonly dtype: 'float32' | 'int32' }
}

export interface Result {
  readonly loss: number
  readonly predictions: Float32Array
  /** By weight, in the model's order. */
  readonly gradients: readonly Float32Array[]
}

export const trainableOf = (model: LayersModel): tf.Variable[] =>
  model.trainableWeights.map((weight) => weight.read() as tf.Variable)

const mean = (loss: Loss, y: tf.Tensor, p: tf.Tensor): tf.Scalar => tf.mean(loss(y, p))

/** Loss, predictions and gradients, eagerly on the cpu backend. */
export function modelEagerly(model: LayersModel, batch: Batch, loss: Loss): Result {
  tf.engine().startScope()
  try {
    const x = tf.tensor(batch.x.data, batch.x.shape)
    const y = tf.tensor(batch.y.data, batch.y.shape, batch.y.dtype)
    const variables = trainableOf(model)
    let predictions = new Float32Array()
    const { value, grads } = tf.variableGrads(() => {
      const p = model.apply(x, { training: true }) as tf.Tensor
      predictions = Float32Array.from(p.dataSync())
      return mean(loss, y, p)
    }, variables)
    const gradients = variables.map((v) => Float32Array.from(grads[v.name]!.dataSync()))
    return { loss: value.dataSync()[0]!, predictions, gradients }
  } finally {
    tf.engine().endScope()
  }
}

export interface Compiled {
  run(key?: readonly number[]): Promise<Result>
  release(): Promise<void>
}

export async function compileModel(
  model: LayersModel,
  batch: Batch,
  loss: Loss,
  training = true,
): Promise<Compiled> {
  const trainable = trainableOf(model)
  const frozen = model.nonTrainableWeights.map((weight) => weight.read() as tf.Variable)
  const gradients = training ? trainable.map((v) => new Float32Array(v.size)) : []
  const program = await Program.compile(
    {
      trainable: training ? trainable : [],
      frozen: training ? frozen : [...trainable, ...frozen],
      layers: [model],
      inputs: [
        { shape: batch.x.shape, dtype: 'float32' },
        { shape: batch.y.shape, dtype: batch.y.dtype },
      ],
      body: ([x, y]) => {
        const p = model.apply(x!, { training }) as tf.Tensor
        return [mean(loss, y!, p), p]
      },
      params: [...trainable, ...frozen].map((v) => Float32Array.from(v.dataSync())),
      gradients,
    },
    { threads: 1 },
  )
  return {
    run: async (key = [1]) => {
      await program.run([batch.x.data, batch.y.data], key)
      const [value, predictions] = program.outputs
      return {
        loss: value!.data[0]!,
        predictions: Float32Array.from(predictions!.data),
        gradients: gradients.map((g) => g.slice()),
      }
    },
    release: () => program.release(),
  }
}

/**
 * Loss, predictions and every gradient, compiled and eagerly; the models are disposed. `oracle`, of the same weights, is
 * run eagerly where TensorFlow.js has `model` wrong.
 */
export async function compareModel(
  model: LayersModel,
  batch: Batch,
  loss: Loss,
  oracle = model,
): Promise<void> {
  const expected = modelEagerly(oracle, batch, loss)
  const compiled = await compileModel(model, batch, loss)
  const actual = await compiled.run()
  await compiled.release()
  expectClose(Float32Array.of(actual.loss), Float32Array.of(expected.loss), 'loss')
  expectClose(actual.predictions, expected.predictions, 'predictions')
  // The accuracy that is asked for is relative to the largest gradient of the model.
  const largest = Math.max(...expected.gradients.map(largestOf))
  const names = model.trainableWeights.map(({ name }) => name)
  actual.gradients.forEach((g, i) => {
    expectClose(g, expected.gradients[i]!, `gradient of ${names[i]}`, 1e-5, largest)
  })
  model.dispose()
  if (oracle !== model) oracle.dispose()
}

/** `count` numbers in [low, high), the same in every run. */
export function numbers(count: number, low: number, high: number, phase = 0): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const x = Math.sin((i + 1) * 12.9898 + phase) * 43758.5453
    return low + (x - Math.floor(x)) * (high - low)
  })
}

export const images = (shape: number[], low = 0, high = 1): Batch['x'] => ({
  data: numbers(sizeOf(shape), low, high),
  shape,
})

/** Class numbers [batch]. */
export const classes = (batch: number, count: number): Batch['y'] => {
  const { data } = ints([batch], 0, count)
  return { data, shape: [batch], dtype: 'int32' }
}

export const sequentialOf = (...list: Layer[]): LayersModel => sequential({ layers: list })
