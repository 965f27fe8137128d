/** The order of nodes by which onnxruntime computes gradients as soon as it can. */
import * as tf from '@tensorflow/tfjs-core'
import { layers } from '@tensorflow/tfjs-layers'
import { expect, test } from 'vitest'
import { lower } from '../../src/compiler/lower.js'
import type { OnnxNode } from '../../src/compiler/onnx.js'
import { needed, readyFirstLast } from '../../src/compiler/order.js'
import { trace } from '../../src/compiler/trace.js'
import { sequentialOf, trainableOf } from './models.js'

const node = (output: string, ...inputs: string[]): OnnxNode => ({
  op: 'Add',
  inputs,
  outputs: [output],
  attributes: {},
})

test('what nobody reads comes last, the earliest of it at the very end', () => {
  const nodes = [node('h', 'x'), node('early', 'h'), node('d', 'h'), node('late', 'd'), node('dx', 'd')]
  const outputs = [node('first', 'early'), node('second', 'late'), node('third', 'h')]
  expect(readyFirstLast(nodes, outputs).map((n) => n.outputs[0])).toEqual([
    'h',
    'd',
    'dx',
    'late',
    'early',
    'second',
    'first',
    'third',
  ])
})

test('what no output needs is left out', () => {
  const nodes = [node('h', 'x'), node('unused', 'h'), node('y', 'h'), node('unused too', 'unused')]
  expect(needed(nodes, [node('output', 'y')]).map((n) => n.outputs[0])).toEqual(['h', 'y'])
})

test('every node comes after what it reads', () => {
  const model = sequentialOf(
    layers.dense({ inputShape: [4], units: 3, activation: 'relu' }),
    layers.dense({ units: 2 }),
  )
  const graph = trace({
    trainable: trainableOf(model),
    frozen: [],
    layers: [model],
    inputs: [{ shape: [5, 4], dtype: 'float32' }],
    body: ([x]) => [tf.sum(model.apply(x!, { training: true }) as tf.Tensor)],
  })
  model.dispose()
  const { onnx } = lower(graph)
  const known = new Set([...onnx.inputs, ...onnx.constants].map(({ name }) => name))
  for (const { inputs, outputs } of onnx.nodes) {
    expect(inputs.filter((name) => !known.has(name))).toEqual([])
    for (const name of outputs) known.add(name)
  }
})
