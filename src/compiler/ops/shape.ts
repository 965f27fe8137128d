/** Ops that move, repeat or make values without computing with them. */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type DType, type KernelNode, type Spec, sameShape, sizeOf, type Value } from '../graph.js'
import { onnxType } from '../onnx.js'
import type { Op } from './op.js'

/** An op that only says its elements' new shape. */
const reshapeTo = (
  inputs: readonly string[],
  shapeOf: (x: Value, attrs: unknown) => readonly number[],
): Op => ({
  inputs,
  alias: ([x], attrs) => (sameShape(x!.shape, shapeOf(x!, attrs)) ? x : undefined),
  infer: ([x], attrs) => [{ shape: shapeOf(x!, attrs), dtype: x!.dtype }],
  lower: (b, node) => b.define(node.outputs[0]!, b.reshape(b.plain(node.inputs[0]!), node.outputs[0]!.shape)),
})

function expandedShape(x: Value, attrs: unknown): number[] {
  const { dim } = attrs as tf.ExpandDimsAttrs
  const shape = [...x.shape]
  shape.splice(dim < 0 ? x.shape.length + dim + 1 : dim, 0, 1)
  return shape
}

const transpose: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => [
    { shape: (attrs as tf.TransposeAttrs).perm.map((i) => x!.shape[i]!), dtype: x!.dtype },
  ],
  lower: (b, node) => {
    const { perm } = node.attrs as tf.TransposeAttrs
    b.define(node.outputs[0]!, b.transpose(b.plain(node.inputs[0]!), perm))
  },
}

function sliceParams(x: Value, attrs: unknown): [number[], number[]] {
  const { begin, size } = attrs as tf.SliceAttrs
  // parseSliceParams reads nothing of the tensor but its shape.
  const tensor = { shape: x.shape, rank: x.shape.length } as unknown as tf.Tensor
  return tf.slice_util.parseSliceParams(tensor, begin, size) as [number[], number[]]
}

function sliced(b: Builder, name: string, begin: readonly number[], size: readonly number[]): string {
  const ends = begin.map((start, i) => start + size[i]!)
  return b.add('Slice', [name, b.ints(begin), b.ints(ends), b.ints(begin.map((_, i) => i))])
}

const slice: Op = {
  inputs: ['x'],
  alias: ([x], attrs) => (sameShape(sliceParams(x!, attrs)[1], x!.shape) ? x : undefined),
  infer: ([x], attrs) => [{ shape: sliceParams(x!, attrs)[1], dtype: x!.dtype }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    b.define(node.outputs[0]!, sliced(b, b.plain(x), ...sliceParams(x, node.attrs)))
  },
}

const pad: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => {
    const { paddings } = attrs as tf.PadV2Attrs
    return [{ shape: x!.shape.map((n, i) => n + paddings[i]![0] + paddings[i]![1]), dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { paddings, constantValue } = node.attrs as tf.PadV2Attrs
    const pads = [...paddings.map((p) => p[0]), ...paddings.map((p) => p[1])]
    const fill = b.scalar(constantValue, x.dtype)
    b.define(node.outputs[0]!, b.add('Pad', [b.plain(x), b.ints(pads), fill]))
  },
}

const axisOf = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis)

const concat: Op = {
  inputs: 'list',
  infer: (xs, attrs) => {
    const axis = axisOf((attrs as tf.ConcatAttrs).axis, xs[0]!.shape.length)
    const total = xs.reduce((sum, x) => sum + x.shape[axis]!, 0)
    return [{ shape: xs[0]!.shape.map((n, i) => (i === axis ? total : n)), dtype: xs[0]!.dtype }]
  },
  lower: (b, node) => {
    const xs = (node.inputs as Value[]).filter((x) => sizeOf(x.shape) > 0)
    if (xs.length === 0) {
      b.define(node.outputs[0]!, filled(b, node.outputs[0]!, 0))
      return
    }
    const axis = axisOf((node.attrs as tf.ConcatAttrs).axis, node.outputs[0]!.shape.length)
    const names = xs.map((x) => b.plain(x))
    b.define(node.outputs[0]!, b.add('Concat', names, { axis }))
  },
}

const pack: Op = {
  inputs: 'list',
  infer: (xs, attrs) => {
    const shape = [...xs[0]!.shape]
    shape.splice(axisOf((attrs as tf.PackAttrs).axis, shape.length + 1), 0, xs.length)
    return [{ shape, dtype: xs[0]!.dtype }]
  },
  lower: (b, node) => {
    const axis = axisOf((node.attrs as tf.PackAttrs).axis, node.outputs[0]!.shape.length)
    const one = node.outputs[0]!.shape.map((n, i) => (i === axis ? 1 : n))
    const names = (node.inputs as Value[]).map((x) => b.reshape(b.plain(x), one))
    b.define(node.outputs[0]!, b.add('Concat', names, { axis }))
  },
}

/** Cuts `node`'s input along `axis` into `sizes`, then gives each piece its output's shape. */
function cut(b: Builder, node: KernelNode, axis: number, sizes: readonly number[]): void {
  const [x] = node.inputs as [Value]
  const pieces = b.addMany('Split', [b.plain(x), b.ints(sizes)], sizes.length, { axis })
  node.outputs.forEach((output, i) => {
    const sameRank = output.shape.length === x.shape.length
    b.define(output, sameRank ? pieces[i]! : b.reshape(pieces[i]!, output.shape))
  })
}

const unpack: Op = {
  inputs: ['value'],
  list: true,
  infer: ([x], attrs) => {
    const axis = axisOf((attrs as tf.UnpackAttrs).axis, x!.shape.length)
    const spec = { shape: x!.shape.filter((_, i) => i !== axis), dtype: x!.dtype }
    return Array<Spec>(x!.shape[axis]!).fill(spec)
  },
  lower: (b, node) => {
    const axis = axisOf((node.attrs as tf.UnpackAttrs).axis, node.inputs[0]!.shape.length)
    cut(b, node, axis, Array<number>(node.outputs.length).fill(1))
  },
}

function splitSizes(x: Value, attrs: unknown): [axis: number, sizes: number[]] {
  const { numOrSizeSplits, axis } = attrs as tf.SplitVAttrs
  const at = axisOf(axis, x.shape.length)
  const tensor = { shape: x.shape } as unknown as tf.Tensor
  return [at, tf.backend_util.prepareSplitSize(tensor, numOrSizeSplits, at)]
}

const split: Op = {
  inputs: ['x'],
  list: true,
  infer: ([x], attrs) => {
    const [axis, sizes] = splitSizes(x!, attrs)
    return sizes.map((size) => ({ shape: x!.shape.map((n, i) => (i === axis ? size : n)), dtype: x!.dtype }))
  },
  lower: (b, node) => cut(b, node, ...splitSizes(node.inputs[0]!, node.attrs)),
}

const tile: Op = {
  inputs: ['x'],
  alias: ([x], attrs) => ((attrs as tf.TileAttrs).reps.every((n) => n === 1) ? x : undefined),
  infer: ([x], attrs) => {
    const { reps } = attrs as tf.TileAttrs
    return [{ shape: x!.shape.map((n, i) => n * reps[i]!), dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const { reps } = node.attrs as tf.TileAttrs
    b.define(node.outputs[0]!, b.add('Tile', [b.plain(node.inputs[0]!), b.ints(reps)]))
  },
}

function filled(b: Builder, output: Value, value: number): string {
  return b.add('Expand', [b.scalar(value, output.dtype), b.ints(output.shape)])
}

const likeFilledWith = (value: number): Op => ({
  inputs: ['x'],
  infer: ([x]) => [{ shape: x!.shape, dtype: x!.dtype }],
  lower: (b, node) => b.define(node.outputs[0]!, filled(b, node.outputs[0]!, value)),
})

const fill: Op = {
  inputs: [],
  infer: (_, attrs) => {
    const { shape, dtype } = attrs as tf.FillAttrs
    return [{ shape, dtype: (dtype ?? 'float32') as DType }]
  },
  lower: (b, node) => {
    const { value } = node.attrs as tf.FillAttrs
    b.define(node.outputs[0]!, filled(b, node.outputs[0]!, Number(value)))
  },
}

/** One comparison of the indices with 0 … depth-1, in a new last dimension. */
const oneHot: Op = {
  inputs: ['indices'],
  infer: ([x], attrs) => {
    const { depth, dtype } = attrs as tf.OneHotAttrs
    return [{ shape: [...x!.shape, depth], dtype: dtype as DType }]
  },
  lower: (b, node) => {
    const [indices] = node.inputs as [Value]
    const { depth, onValue, offValue } = node.attrs as tf.OneHotAttrs
    const output = node.outputs[0]!
    const column = b.reshape(b.plain(indices), [...indices.shape, 1])
    const classes = b.constant(
      'int32',
      [depth],
      Int32Array.from({ length: depth }, (_, i) => i),
    )
    const hit = b.add('Equal', [column, classes])
    const values = b.add('Where', [hit, b.scalar(onValue), b.scalar(offValue)])
    b.define(
      output,
      output.dtype === 'float32' ? values : b.add('Cast', [values], { to: onnxType[output.dtype] }),
    )
  },
}

const identity: Op = {
  inputs: ['x'],
  alias: ([x]) => x,
  infer: ([x]) => [x!],
  lower: (b, node) => b.define(node.outputs[0]!, b.plain(node.inputs[0]!)),
}

export const shapeOps = {
  Concat: concat,
  ExpandDims: reshapeTo(['input'], expandedShape),
  Fill: fill,
  Identity: identity,
  OneHot: oneHot,
  OnesLike: likeFilledWith(1),
  Pack: pack,
  PadV2: pad,
  Reshape: reshapeTo(['x'], (x, attrs) =>
    tf.util.inferFromImplicitShape([...(attrs as tf.ReshapeAttrs).shape], sizeOf(x.shape)),
  ),
  Slice: slice,
  SplitV: split,
  Tile: tile,
  Transpose: transpose,
  Unpack: unpack,
  ZerosLike: likeFilledWith(0),
} satisfies Record<string, Op>
