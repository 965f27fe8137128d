/**
 * Reading and writing rows by number. A number out of range is an error when the step runs; ONNX would let negative
 * numbers count from the end.
 */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { sizeOf, type Value } from '../graph.js'
import { NUMERIC, type Op } from './op.js'

const INT64 = 7

/** Numbers that index `sizes` (one size a column, or one for all), with negative ones made too large. */
function checked(b: Builder, indices: string, sizes: readonly number[]): string {
  return b.once(`checked ${indices} ${sizes}`, () => {
    const limits = b.constant('int32', sizes.length === 1 ? [] : [sizes.length], Int32Array.from(sizes))
    const isNegative = b.add('Less', [indices, b.scalar(0, 'int32')])
    return b.add('Where', [isNegative, limits, indices])
  })
}

interface Gathering {
  readonly axis: number
  readonly batchDims: number
}

function gathering(x: Value, attrs: unknown): Gathering {
  const { axis, batchDims } = attrs as tf.GatherV2Attrs
  return { axis: axis < 0 ? axis + x.shape.length : axis, batchDims: batchDims ?? 0 }
}

const gather: Op = {
  inputs: ['x', 'indices'],
  refuse: ([x, indices], attrs) => {
    if (indices!.dtype !== 'int32') return `was given ${indices!.dtype} indices: use tf.cast`
    const { batchDims, axis } = gathering(x!, attrs)
    return batchDims > 1 || batchDims > axis
      ? `was given ${batchDims} batch dimensions for axis ${axis}: reshape to one, in front of the axis`
      : undefined
  },
  infer: ([x, indices], attrs) => {
    const { axis, batchDims } = gathering(x!, attrs)
    const rows = indices!.shape.slice(batchDims)
    return [{ shape: [...x!.shape.slice(0, axis), ...rows, ...x!.shape.slice(axis + 1)], dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x, indices] = node.inputs as [Value, Value]
    const { axis, batchDims } = gathering(x, node.attrs)
    const numbers = checked(b, b.plain(indices), [x.shape[axis]!])
    const output = node.outputs[0]!
    b.define(
      output,
      batchDims === 0
        ? b.add('Gather', [b.plain(x), numbers], { axis })
        : batchGather(b, x, axis, numbers, indices.shape),
    )
  },
}

/** Each row of `indices` [batch, …] reads its own row of x [batch, …]: GatherND along the axis, moved to place 1. */
function batchGather(
  b: Builder,
  x: Value,
  axis: number,
  indices: string,
  [batch, ...rows]: readonly number[],
): string {
  const rank = x.shape.length
  const between = Array.from({ length: axis - 1 }, (_, i) => i + 1)
  const after = Array.from({ length: rank - axis - 1 }, (_, i) => axis + 1 + i)
  const moved = b.transpose(b.plain(x), [0, axis, ...between, ...after])
  const column = b.reshape(b.add('Cast', [indices], { to: INT64 }), [batch!, ...rows, 1])
  const found = b.add('GatherND', [moved, column], { batch_dims: 1 })
  const [first, last] = [1 + rows.length, rows.length + rank - 1]
  const places = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
  const middle = first + between.length
  return b.transpose(found, [0, ...places(first, middle), ...places(1, first), ...places(middle, last)])
}

/** Row i of x is added to row segmentIds[i] of the output; rows of other numbers are left out. */
const segmentSum: Op = {
  inputs: ['x', 'segmentIds'],
  dtypes: NUMERIC,
  infer: ([x], attrs) => {
    const { numSegments } = attrs as tf.UnsortedSegmentSumAttrs
    return [{ shape: [numSegments, ...x!.shape.slice(1)], dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x, ids] = node.inputs as [Value, Value]
    const output = node.outputs[0]!
    const int = (n: number) => b.scalar(n, 'int32')
    const given = b.plain(ids)
    const near = b.once(`clip ${given} ${output.shape[0]}`, () =>
      b.add('Clip', [given, int(0), int(output.shape[0]! - 1)]),
    )
    const isInside = b.reshape(b.add('Equal', [given, near]), [
      sizeOf(ids.shape),
      ...x.shape.slice(1).map(() => 1),
    ])
    const zero = b.scalar(0, x.dtype)
    const rows = b.add('Where', [isInside, b.plain(x), zero])
    const places = b.reshape(b.add('Cast', [near], { to: INT64 }), [sizeOf(ids.shape), 1])
    const zeros = b.add('Expand', [zero, b.ints(output.shape)])
    b.define(output, b.add('ScatterND', [zeros, places, rows], { reduction: 'add' }))
  },
}

/** Indices [..., n] into the first n dimensions of `shape`, ready for ONNX. */
function coordinates(b: Builder, indices: Value, shape: readonly number[]): string {
  const sizes = shape.slice(0, indices.shape.at(-1)!)
  return b.add('Cast', [checked(b, b.plain(indices), sizes)], { to: INT64 })
}

const gatherNd: Op = {
  inputs: ['params', 'indices'],
  infer: ([params, indices]) => {
    const depth = indices!.shape.at(-1)!
    return [{ shape: [...indices!.shape.slice(0, -1), ...params!.shape.slice(depth)], dtype: params!.dtype }]
  },
  lower: (b, node) => {
    const [params, indices] = node.inputs as [Value, Value]
    const places = coordinates(b, indices, params.shape)
    b.define(node.outputs[0]!, b.add('GatherND', [b.plain(params), places]))
  },
}

/** Updates at their indices in a tensor of zeros, added where several meet. */
const scatterNd: Op = {
  inputs: ['indices', 'updates'],
  infer: ([, updates], attrs) => [{ shape: (attrs as tf.ScatterNdAttrs).shape, dtype: updates!.dtype }],
  refuse: ([, updates]) =>
    updates!.dtype === 'bool' ? 'was given booleans to add up: use tf.cast' : undefined,
  lower: (b, node) => {
    const [indices, updates] = node.inputs as [Value, Value]
    const output = node.outputs[0]!
    const zeros = b.add('Expand', [b.scalar(0, output.dtype), b.ints(output.shape)])
    const places = coordinates(b, indices, output.shape)
    b.define(output, b.add('ScatterND', [zeros, places, b.plain(updates)], { reduction: 'add' }))
  },
}

/** A tensor with some of its slices replaced. */
const tensorScatterUpdate: Op = {
  inputs: ['tensor', 'indices', 'updates'],
  infer: ([tensor]) => [tensor!],
  lower: (b, node) => {
    const [tensor, indices, updates] = node.inputs as [Value, Value, Value]
    const places = coordinates(b, indices, tensor.shape)
    b.define(node.outputs[0]!, b.add('ScatterND', [b.plain(tensor), places, b.plain(updates)]))
  },
}

export const gatherOps = {
  GatherNd: gatherNd,
  GatherV2: gather,
  ScatterNd: scatterNd,
  TensorScatterUpdate: tensorScatterUpdate,
  UnsortedSegmentSum: segmentSum,
} satisfies Record<string, Op>
