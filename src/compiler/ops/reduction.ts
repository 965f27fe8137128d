/** Reductions over axes, arg-max, and softmax. */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { DType, KernelNode, Value } from '../graph.js'
import type { Op } from './op.js'

interface ReductionAttrs {
  readonly axis?: number | number[]
  readonly reductionIndices?: number | number[]
  readonly keepDims?: boolean
}

function axesOf(x: Value, attrs: unknown): number[] {
  const { axis, reductionIndices } = attrs as ReductionAttrs
  return tf.util.parseAxisParam((axis ?? reductionIndices)!, [...x.shape])
}

function reduction(onnx: string, dtype?: DType, make = reduce): Op {
  return {
    inputs: ['x'],
    infer: ([x], attrs) => {
      const axes = axesOf(x!, attrs)
      const { keepDims } = attrs as ReductionAttrs
      const kept = x!.shape.map((n, i) => (axes.includes(i) ? 1 : n))
      return [{ shape: keepDims ? kept : kept.filter((_, i) => !axes.includes(i)), dtype: dtype ?? x!.dtype }]
    },
    lower: (b, node) => make(b, node, onnx),
  }
}

function reduce(b: Builder, node: KernelNode, onnx: string): void {
  const [x] = node.inputs as [Value]
  const axes = axesOf(x, node.attrs)
  const output = node.outputs[0]!
  if (axes.length === 0) return b.define(output, b.plain(x))
  // The gradient of a convolution's bias: sum everything but the channels, without leaving NCHW.
  const overPixels = x.shape.length === 4 && b.isNchw(x) && !axes.includes(3) && axes.length === 3
  const name = overPixels ? b.nchw(x) : b.plain(x)
  const reduced = b.add(onnx, [name, b.ints(overPixels ? [0, 2, 3] : axes)], { keepdims: 0 })
  b.define(
    output,
    output.shape.length === x.shape.length - axes.length ? reduced : b.reshape(reduced, output.shape),
  )
}

/** ONNX reduces no booleans: all is the minimum, any the maximum of 0 and 1. */
function reduceBool(b: Builder, node: KernelNode, onnx: string): void {
  const [x] = node.inputs as [Value]
  const numbers = b.add('Cast', [b.plain(x)], { to: 6 })
  const reduced = b.add(onnx, [numbers, b.ints(axesOf(x, node.attrs))], { keepdims: 0 })
  b.define(node.outputs[0]!, b.reshape(b.add('Cast', [reduced], { to: 9 }), node.outputs[0]!.shape))
}

const argReduction = (onnx: string): Op => ({
  inputs: ['x'],
  infer: ([x], attrs) => {
    const [axis] = axesOf(x!, attrs)
    return [{ shape: x!.shape.filter((_, i) => i !== axis), dtype: 'int32' }]
  },
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const [axis] = axesOf(x, node.attrs) as [number]
    const index = b.add(onnx, [b.plain(x)], { axis, keepdims: 0 })
    b.define(node.outputs[0]!, b.add('Cast', [index], { to: 6 }))
  },
})

const softmaxLike = (onnx: string): Op => ({
  inputs: ['logits'],
  infer: ([x]) => [{ shape: x!.shape, dtype: 'float32' }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    // TensorFlow.js calls the axis `dim` in one and `axis` in the other.
    const { dim, axis } = node.attrs as { dim?: number; axis?: number }
    b.define(node.outputs[0]!, b.add(onnx, [b.plain(x)], { axis: (dim ?? axis)! }))
  },
})

export const reductionOps = {
  All: reduction('ReduceMin', 'bool', reduceBool),
  Any: reduction('ReduceMax', 'bool', reduceBool),
  ArgMax: argReduction('ArgMax'),
  ArgMin: argReduction('ArgMin'),
  LogSoftmax: softmaxLike('LogSoftmax'),
  Max: reduction('ReduceMax'),
  Mean: reduction('ReduceMean', 'float32'),
  Min: reduction('ReduceMin'),
  Prod: reduction('ReduceProd'),
  Softmax: softmaxLike('Softmax'),
  Sum: reduction('ReduceSum'),
} satisfies Record<string, Op>
