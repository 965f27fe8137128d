/** Reductions over axes, arg-max, and softmax. */
import * as tf from '@tensorflow/tfjs-core'
import { type Builder, channelsSecond, isImage } from '../builder.js'
import type { DType, KernelNode, Value } from '../graph.js'
import { onnxType } from '../onnx.js'
import { FLOAT, NUMERIC, type Op } from './op.js'

interface ReductionAttrs {
  readonly axis?: number | number[]
  readonly reductionIndices?: number | number[]
  readonly keepDims?: boolean
}

function axesOf(x: Value, attrs: unknown): number[] {
  const { axis, reductionIndices } = attrs as ReductionAttrs
  return tf.util.parseAxisParam((axis ?? reductionIndices)!, [...x.shape])
}

interface Reduction {
  /** Dtypes that it takes, when not all. */
  readonly from?: readonly DType[]
  /** Dtype that it gives, when not its input's. */
  readonly to?: DType
  readonly make?: (b: Builder, node: KernelNode, onnx: string) => void
}

function reduction(onnx: string, { from, to, make = reduce }: Reduction): Op {
  return {
    inputs: ['x'],
    ...(from && { dtypes: from }),
    infer: ([x], attrs) => {
      const axes = axesOf(x!, attrs)
      const { keepDims } = attrs as ReductionAttrs
      const kept = x!.shape.map((n, i) => (axes.includes(i) ? 1 : n))
      return [{ shape: keepDims ? kept : kept.filter((_, i) => !axes.includes(i)), dtype: to ?? x!.dtype }]
    },
    lower: (b, node) => make(b, node, onnx),
  }
}

function reduce(b: Builder, node: KernelNode, onnx: string): void {
  const [x] = node.inputs as [Value]
  const axes = axesOf(x, node.attrs)
  const output = node.outputs[0]!
  // The mean of integers is a float32.
  const asOutput = (name: string) =>
    x.dtype === output.dtype ? name : b.add('Cast', [name], { to: onnxType[output.dtype] })
  if (axes.length === 0) {
    b.define(output, asOutput(b.plain(x)))
    return
  }
  // Over whole images (a bias gradient, a global average) without leaving NCHW; blocked ones are reduced slowly.
  const pixels = x.shape.slice(1, -1).map((_, i) => i + 1)
  const overPixels =
    isImage(x.shape) && !axes.includes(x.shape.length - 1) && pixels.every((i) => axes.includes(i))
  const layout = overPixels && b.layoutOf(x) === 'nchw' ? 'nchw' : 'plain'
  const within = layout === 'plain' ? axes : axes.map((axis) => (axis === 0 ? 0 : axis + 1))
  const shape = layout === 'plain' ? x.shape : channelsSecond(x.shape)
  const reduced = b.reduce(onnx, asOutput(b.as(x, layout)), { shape, dtype: output.dtype }, within)
  const shaped = output.shape.length === x.shape.length - axes.length
  b.define(output, shaped ? reduced : b.reshape(reduced, output.shape))
}

/** ONNX reduces no booleans: all is the minimum, any the maximum of 0 and 1. */
function reduceBool(b: Builder, node: KernelNode, onnx: string): void {
  const [x] = node.inputs as [Value]
  const axes = axesOf(x, node.attrs)
  const output = node.outputs[0]!
  if (axes.length === 0) {
    b.define(output, b.plain(x))
    return
  }
  const numbers = b.add('Cast', [b.plain(x)], { to: onnxType.int32 })
  const reduced = b.add(onnx, [numbers, b.ints(axes)], { keepdims: 0 })
  b.define(output, b.reshape(b.add('Cast', [reduced], { to: onnxType.bool }), output.shape))
}

const argReduction = (onnx: string): Op => ({
  inputs: ['x'],
  dtypes: NUMERIC,
  infer: ([x], attrs) => {
    const [axis] = axesOf(x!, attrs)
    return [{ shape: x!.shape.filter((_, i) => i !== axis), dtype: 'int32' }]
  },
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const [axis] = axesOf(x, node.attrs) as [number]
    const index = b.add(onnx, [b.plain(x)], { axis, keepdims: 0 })
    b.define(node.outputs[0]!, b.add('Cast', [index], { to: onnxType.int32 }))
  },
})

const softmax = (onnx: string, axisOf: (attrs: unknown) => number): Op => ({
  inputs: ['logits'],
  dtypes: FLOAT,
  infer: ([x]) => [{ shape: x!.shape, dtype: 'float32' }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    b.define(node.outputs[0]!, b.add(onnx, [b.plain(x)], { axis: axisOf(node.attrs) }))
  },
})

export const reductionOps = {
  All: reduction('ReduceMin', { from: ['bool'], make: reduceBool }),
  Any: reduction('ReduceMax', { from: ['bool'], make: reduceBool }),
  ArgMax: argReduction('ArgMax'),
  ArgMin: argReduction('ArgMin'),
  LogSoftmax: softmax('LogSoftmax', (attrs) => (attrs as tf.LogSoftmaxAttrs).axis),
  Max: reduction('ReduceMax', { from: NUMERIC }),
  Mean: reduction('ReduceMean', { to: 'float32' }),
  Min: reduction('ReduceMin', { from: NUMERIC }),
  Prod: reduction('ReduceProd', { from: NUMERIC }),
  Softmax: softmax('Softmax', (attrs) => (attrs as tf.SoftmaxAttrs).dim),
  Sum: reduction('ReduceSum', { from: NUMERIC }),
} satisfies Record<string, Op>
