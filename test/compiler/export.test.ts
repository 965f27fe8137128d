/** Exported models: standard operators alone, any batch size where the graph allows, refusals that name the layer. */
import * as tf from '@tensorflow/tfjs-core'
import * as ort from 'onnxruntime-node'
import { expect, test } from 'vitest'
import { type ExportRequest, exportModel } from '../../src/compiler/export.js'
import { quietTensorflow } from '../../src/runtime/quiet-tensorflow.js'
import { numbers } from './models.js'

quietTensorflow()

const weight = tf.variable(tf.tensor(numbers(12, -1, 1), [3, 4]), false, 'w')

const request = (
  body: (x: tf.Tensor) => tf.Tensor,
  batch: ExportRequest['batch'] = 'dynamic',
): ExportRequest => ({
  weights: [{ name: 'dense/kernel', variable: weight, data: weight.dataSync() as Float32Array }],
  layers: [],
  inputs: [{ name: 'features', shape: [1, 2, 3], dtype: 'float32' }],
  outputNames: ['scores'],
  batch,
  body: ([x]) => [body(x!)],
})

async function run(bytes: Uint8Array, batch: number) {
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 })
  const x = numbers(batch * 6, -1, 1)
  const results = await session.run({ features: new ort.Tensor('float32', x, [batch, 2, 3]) })
  const { data, dims } = results.scores!
  return { x: tf.tensor(x, [batch, 2, 3]), data: Array.from(data as Float32Array), dims: [...dims], session }
}

/** What a model may do with its batch size, all of it computed when the file runs. */
const bodies: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  'a reshape that keeps the batch': (x) => tf.reshape(x, [x.shape[0]!, 6]),
  'rows of all samples': (x) => tf.matMul(tf.reshape(x, [-1, 3]) as tf.Tensor2D, weight as tf.Tensor2D),
  'batched products, transposed': (x) => tf.matMul(x, x, true, false),
  'the batch in the middle': (x) => tf.transpose(tf.reshape(x, [x.shape[0]!, 3, 2]), [1, 0, 2]),
  'zeros made for the batch': (x) => tf.concat([x, tf.zeros([x.shape[0]!, 1, 3])], 1),
  'a slice that counts samples': (x) => tf.slice(x, [1, 0, 0], [x.shape[0]! - 1, 2, 3]),
  'a tile along the batch': (x) => tf.tile(x, [2, 1, 1]),
  'two sizes that grow': (x) =>
    tf.sum(tf.mul(tf.reshape(x, [x.shape[0]!, 1, 6]), tf.reshape(x, [1, x.shape[0]!, 6])), 2),
}

test.each(Object.entries(bodies))('%s', async (_, body) => {
  const bytes = exportModel(request(body))
  for (const batch of [1, 2, 5]) {
    const { x, data, dims } = await run(bytes, batch)
    const expected = body(x)
    expect(dims).toEqual(expected.shape)
    const error = Math.max(...Array.from(expected.dataSync(), (n, i) => Math.abs(n - data[i]!)))
    expect(error).toBeLessThan(1e-6)
  }
})

test('names are the request’s, sizes that grow are called so', async () => {
  const { session } = await run(exportModel(request((x) => tf.matMul(tf.reshape(x, [-1, 3]), weight))), 2)
  expect(session.inputMetadata).toMatchObject([{ name: 'features', shape: ['N', 2, 3] }])
  expect(session.outputMetadata).toMatchObject([{ name: 'scores', shape: ['2*N', 4] }])
})

test('a batch of one size', async () => {
  const { session } = await run(exportModel(request((x) => tf.mean(x, [0, 2]), 4)), 4)
  expect(session.inputMetadata).toMatchObject([{ shape: [4, 2, 3] }])
})

test.each([
  ['its mean over the batch', (x: tf.Tensor) => tf.div(x, tf.scalar(x.shape[0]!)), 'RealDiv'],
  [
    'numbers up to the batch',
    (x: tf.Tensor) => tf.add(x, tf.reshape(tf.range(0, x.shape[0]!), [-1, 1, 1])),
    'Reshape',
  ],
  ['its square', (x: tf.Tensor) => tf.tile(x, [x.shape[0]! ** 2, 1, 1]), 'Tile'],
])('%s is refused for every batch size at once', (_, body, kernel) => {
  expect(() => exportModel(request(body))).toThrow(`what the model computes in ${kernel} depends on it`)
  expect(exportModel(request(body, 2)).length).toBeGreaterThan(0)
})

test('a model that runs with one batch size only', () => {
  expect(() => exportModel(request((x) => tf.reshape(x, [4, 6])))).toThrow(/batch of 997 .*\{ batch: n \}/)
})
