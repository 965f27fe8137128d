/** The encoded models, read by ONNX' own checker and shape inference. Skipped where Python has no onnx package. */
import { spawnSync } from 'node:child_process'
import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import { type LayersModel, layers } from '@tensorflow/tfjs-layers'
import { describe, expect, test } from 'vitest'
import { lower } from '../../src/compiler/lower.js'
import { encodeModel } from '../../src/compiler/onnx.js'
import { simplify } from '../../src/compiler/simplify.js'
import { trace } from '../../src/compiler/trace.js'
import { cnn } from '../../src/models/cnn.js'
import { mlp } from '../../src/models/mlp.js'
import { sequentialOf, trainableOf } from './models.js'

await tf.setBackend('cpu')

const PYTHON = ['python3', '/opt/torchenv/bin/python'].find(
  (python) => spawnSync(python, ['-c', 'import onnx']).status === 0,
)

const CHECK = `
import json, sys, onnx
model = onnx.load_model_from_string(sys.stdin.buffer.read())
onnx.checker.check_model(model, full_check=True)
inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
shape = lambda v: [d.dim_value for d in v.type.tensor_type.shape.dim]
print(json.dumps({
  "ir": model.ir_version,
  "opsets": {o.domain: o.version for o in model.opset_import},
  "domains": sorted({n.domain for n in model.graph.node}),
  "outputs": {v.name: shape(v) for v in inferred.graph.output},
}))
`

function check(model: Uint8Array): {
  ir: number
  opsets: object
  domains: string[]
  outputs: Record<string, number[]>
} {
  const { status, stdout, stderr } = spawnSync(PYTHON!, ['-c', CHECK], { input: model, maxBuffer: 1 << 26 })
  expect(status, stderr.toString()).toBe(0)
  return JSON.parse(stdout.toString())
}

function trainingGraph(model: LayersModel, inputShape: number[], classes: number) {
  const trainable = trainableOf(model)
  const graph = trace({
    trainable,
    frozen: model.nonTrainableWeights.map((w) => w.read() as tf.Variable),
    layers: [model],
    inputs: [
      { shape: inputShape, dtype: 'float32' },
      { shape: [inputShape[0]!], dtype: 'int32' },
    ],
    body: ([x, y]) => {
      const logits = model.apply(x!, { training: true }) as tf.Tensor
      return [tf.losses.softmaxCrossEntropy(tf.oneHot(y as tf.Tensor1D, classes), logits)]
    },
  })
  model.dispose()
  return lower(simplify(graph)).onnx
}

describe.skipIf(PYTHON === undefined)('onnx.checker and strict shape inference accept', () => {
  test('the training step of the cnn', () => {
    const graph = trainingGraph(cnn({ dropout: 0.25 }), [4, 28, 28, 1], 10)
    const { ir, opsets, outputs } = check(encodeModel(graph))
    expect(ir).toBe(10)
    expect(opsets).toMatchObject({ '': 21 })
    expect(outputs).toEqual(Object.fromEntries(graph.outputs.map(({ name, shape }) => [name, [...shape]])))
  })

  test('the training step of the mlp', () => {
    check(encodeModel(trainingGraph(mlp(), [4, 28, 28, 1], 10)))
  })

  test('a model of many layers', () => {
    const model = sequentialOf(
      layers.conv2d({
        inputShape: [9, 9, 3],
        filters: 4,
        kernelSize: 3,
        strides: 2,
        padding: 'same',
        activation: 'elu',
      }),
      layers.averagePooling2d({ poolSize: 2, strides: 1, padding: 'same' }),
      layers.leakyReLU(),
      layers.maxPooling2d({ poolSize: 2 }),
      layers.flatten(),
      layers.dense({ units: 6, activation: 'selu' }),
      layers.dense({ units: 3, activation: 'softplus' }),
    )
    check(encodeModel(trainingGraph(model, [2, 9, 9, 3], 3)))
  })

  test('batched products, which are nodes of com.microsoft', () => {
    const graph = trace({
      trainable: [],
      frozen: [],
      layers: [],
      inputs: [{ shape: [2, 3, 4], dtype: 'float32' }],
      body: ([x]) => [tf.matMul(x!, x!, false, true)],
    })
    expect(check(encodeModel(lower(graph).onnx)).domains).toContain('com.microsoft')
  })

  test('every kind of attribute, dtype and constant', () => {
    const graph = trace({
      trainable: [],
      frozen: [],
      layers: [],
      inputs: [
        { shape: [2, 3], dtype: 'float32' },
        { shape: [2, 3], dtype: 'int32' },
        { shape: [2, 3], dtype: 'bool' },
      ],
      body: ([f, i, b]) => [
        tf.leakyRelu(f!, 0.3),
        tf.add(i!, tf.tensor([1, -2, 3], [3], 'int32')),
        tf.logicalOr(b!, tf.tensor([true, false, true], [3], 'bool')),
        tf.argMax(f!, 1),
        tf.softmax(f!),
        tf.oneHot(i as tf.Tensor2D, 4, 1, 0, 'bool'),
        tf.scalar(5),
      ],
    })
    const onnx = lower(simplify(graph)).onnx
    expect(check(encodeModel(onnx)).outputs).toEqual({
      output0: [2, 3],
      output1: [2, 3],
      output2: [2, 3],
      output3: [2],
      output4: [2, 3],
      output5: [2, 3, 4],
      output6: [],
    })
  })
})
