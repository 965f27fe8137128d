/** A layers model as an exported file, for any batch size, beside TensorFlow.js' own predictions. */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import * as ort from 'onnxruntime-node'
import { expect } from 'vitest'
import { exportModel } from '../../src/compiler/export.js'
import { sizeOf } from '../../src/compiler/graph.js'
import { expectClose } from './harness.js'
import { numbers } from './models.js'

/** For models of one float32 input and one output. */
export async function compareExport(model: LayersModel): Promise<void> {
  const inner = model.inputs[0]!.shape.slice(1) as number[]
  const bytes = exportModel({
    weights: model.weights.map((weight) => {
      const variable = weight.read() as tf.Variable
      return { name: weight.name, variable, data: Float32Array.from(variable.dataSync()) }
    }),
    layers: [model],
    inputs: [{ name: 'x', shape: [1, ...inner], dtype: 'float32' }],
    outputNames: ['y'],
    batch: 'dynamic',
    body: ([x]) => [model.apply(x!, { training: false }) as tf.Tensor],
  })
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 })
  for (const batch of [1, 3]) {
    const shape = [batch, ...inner]
    const x = numbers(sizeOf(shape), -1, 1)
    const { y } = await session.run({ x: new ort.Tensor('float32', x, shape) })
    const expected = tf.tidy(() => model.predict(tf.tensor(x, shape))) as tf.Tensor
    expect([...y!.dims]).toEqual(expected.shape)
    expectClose(
      y!.data as Float32Array,
      Float32Array.from(expected.dataSync()),
      `exported, batch of ${batch}`,
    )
  }
  await session.release()
}
