/** Ops that put values in another order: strided, reversed, mirrored, between space and batch or depth, sorted. */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { sizeOf, type Value } from '../graph.js'
import { onnxType } from '../onnx.js'
import { NUMERIC, type Op } from './op.js'

/** As far before the beginning as ONNX can be told. */
const BEFORE_ALL = -(2 ** 31)

/** With the dimensions that `axesOf` says running backwards. */
const reversed = (axesOf: (x: Value, attrs: unknown) => number[]): Op => ({
  inputs: ['x'],
  infer: ([x]) => [x!],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const axes = axesOf(x, node.attrs)
    const all = (n: number) => b.ints(axes.map(() => n))
    const inputs = [b.plain(x), all(-1), all(BEFORE_ALL), b.ints(axes), all(-1)]
    b.define(node.outputs[0]!, axes.length === 0 ? b.plain(x) : b.add('Slice', inputs))
  },
})

const reverse = reversed((x, attrs) => tf.util.parseAxisParam((attrs as tf.ReverseAttrs).dims, [...x.shape]))

/** Of images, NHWC. */
const flipLeftRight: Op = { ...reversed(() => [2]), inputs: ['image'] }

function sliceInfo(x: Value, attrs: unknown) {
  const { begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } =
    attrs as tf.StridedSliceAttrs
  return tf.slice_util.sliceInfo(
    [...x.shape],
    begin,
    end,
    strides,
    beginMask,
    endMask,
    ellipsisMask,
    newAxisMask,
    shrinkAxisMask,
  )
}

const stridedSlice: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => [{ shape: sliceInfo(x!, attrs).finalShape, dtype: x!.dtype }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { begin, end, strides, finalShape } = sliceInfo(x, node.attrs)
    // A negative end is before the first element here, and counts from the last one in ONNX.
    const ends = end.map((n) => (n < 0 ? BEFORE_ALL : n))
    const axes = begin.map((_, i) => i)
    const sliced = b.add('Slice', [b.plain(x), b.ints(begin), b.ints(ends), b.ints(axes), b.ints(strides)])
    b.define(node.outputs[0]!, b.reshape(sliced, finalShape))
  },
}

/** Where along an axis of `size` each element of the padded axis comes from. */
export function mirrored(
  size: number,
  [before, after]: readonly [number, number],
  mode: 'reflect' | 'symmetric',
): number[] {
  const edge = mode === 'reflect' ? 0 : 1
  return Array.from({ length: before + size + after }, (_, i) => {
    const at = i - before
    if (at < 0) return -at - edge
    return at < size ? at : 2 * (size - 1) - at + edge
  })
}

/** One Gather per padded axis: ONNX mirrors only without the edge. */
const mirrorPad: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => {
    const { paddings } = attrs as tf.MirrorPadAttrs
    return [{ shape: x!.shape.map((n, i) => n + paddings[i]![0] + paddings[i]![1]), dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { paddings, mode } = node.attrs as tf.MirrorPadAttrs
    const padded = x.shape.reduce((name, size, axis) => {
      const places = mirrored(size, paddings[axis]!, mode)
      return places.length === size ? name : b.add('Gather', [name, b.ints(places)], { axis })
    }, b.plain(x))
    b.define(node.outputs[0]!, padded)
  },
}

function batchToSpaceShapes(x: Value, attrs: unknown) {
  const { blockShape, crops } = attrs as tf.BatchToSpaceNDAttrs
  const { backend_util } = tf
  const whole = backend_util.getReshapedPermuted([...x.shape], blockShape, sizeOf(blockShape))
  const reshaped = backend_util.getReshaped([...x.shape], blockShape, sizeOf(blockShape))
  const cropped = whole.map((_, i) => crops[i - 1] ?? [0, 0])
  return {
    reshaped,
    perm: backend_util.getPermuted(reshaped.length, blockShape.length),
    whole,
    starts: cropped.map(([before]) => before!),
    size: whole.map((n, i) => n - cropped[i]![0]! - cropped[i]![1]!),
  }
}

const batchToSpace: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => [{ shape: batchToSpaceShapes(x!, attrs).size, dtype: x!.dtype }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { reshaped, perm, whole, starts, size } = batchToSpaceShapes(x, node.attrs)
    const spread = b.reshape(b.transpose(b.reshape(b.plain(x), reshaped), perm), whole)
    const ends = starts.map((start, i) => start + size[i]!)
    const axes = whole.map((_, i) => i)
    b.define(node.outputs[0]!, b.add('Slice', [spread, b.ints(starts), b.ints(ends), b.ints(axes)]))
  },
}

function spaceToBatchShapes(x: Value, attrs: unknown) {
  const { blockShape, paddings } = attrs as tf.SpaceToBatchNDAttrs
  const { backend_util } = tf
  const pads = x.shape.map((_, i) => paddings[i - 1] ?? [0, 0])
  const padded = x.shape.map((n, i) => n + pads[i]![0]! + pads[i]![1]!)
  const reshaped = backend_util.getReshaped(padded, blockShape, sizeOf(blockShape), false)
  return {
    pads,
    reshaped,
    perm: backend_util.getPermuted(reshaped.length, blockShape.length, false),
    outShape: backend_util.getReshapedPermuted(padded, blockShape, sizeOf(blockShape), false),
  }
}

const spaceToBatch: Op = {
  inputs: ['x'],
  infer: ([x], attrs) => [{ shape: spaceToBatchShapes(x!, attrs).outShape, dtype: x!.dtype }],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { pads, reshaped, perm, outShape } = spaceToBatchShapes(x, node.attrs)
    const sides = b.ints([...pads.map((p) => p[0]!), ...pads.map((p) => p[1]!)])
    const padded = b.add('Pad', [b.plain(x), sides, b.scalar(0, x.dtype)])
    b.define(node.outputs[0]!, b.reshape(b.transpose(b.reshape(padded, reshaped), perm), outShape))
  },
}

/** Channels [block, block, depth] of each pixel become a block of pixels. */
const depthToSpace: Op = {
  inputs: ['x'],
  refuse: (_, attrs) =>
    (attrs as tf.DepthToSpaceAttrs).dataFormat === 'NCHW'
      ? "was given dataFormat 'NCHW': use 'NHWC'"
      : undefined,
  infer: ([x], attrs) => {
    const { blockSize } = attrs as tf.DepthToSpaceAttrs
    const [n, h, w, c] = x!.shape as [number, number, number, number]
    return [{ shape: [n, h * blockSize, w * blockSize, c / blockSize ** 2], dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { blockSize } = node.attrs as tf.DepthToSpaceAttrs
    const [n, h, w, c] = x.shape as [number, number, number, number]
    const split = b.reshape(b.plain(x), [n, h, w, blockSize, blockSize, c / blockSize ** 2])
    const output = node.outputs[0]!
    b.define(output, b.reshape(b.transpose(split, [0, 1, 3, 2, 4, 5]), output.shape))
  },
}

/** The k largest of the last dimension, and where they stand; of equal ones the first. */
const topK: Op = {
  inputs: ['x'],
  list: true,
  dtypes: NUMERIC,
  infer: ([x], attrs) => {
    const shape = [...x!.shape.slice(0, -1), (attrs as tf.TopKAttrs).k]
    return [
      { shape, dtype: x!.dtype },
      { shape, dtype: 'int32' },
    ]
  },
  lower: (b, node) => {
    const { k } = node.attrs as tf.TopKAttrs
    const [largest, places] = b.addMany('TopK', [b.plain(node.inputs[0]!), b.ints([k])], 2, {
      axis: -1,
      sorted: 1,
    }) as [string, string]
    const [values, indices] = node.outputs as [Value, Value]
    b.define(values, largest)
    b.define(indices, b.add('Cast', [places], { to: onnxType.int32 }))
  },
}

/** A kernel without inputs, whose numbers its attributes say. */
function constant(numbersOf: (attrs: unknown) => Float32Array | Int32Array): Op {
  const dtypeOf = (numbers: Float32Array | Int32Array) =>
    numbers instanceof Int32Array ? 'int32' : 'float32'
  return {
    inputs: [],
    infer: (_, attrs) => {
      const numbers = numbersOf(attrs)
      return [{ shape: [numbers.length], dtype: dtypeOf(numbers) }]
    },
    lower: (b: Builder, node) => {
      const numbers = numbersOf(node.attrs)
      b.define(node.outputs[0]!, b.constant(dtypeOf(numbers), [numbers.length], numbers))
    },
  }
}

/** start, start + step, …, before stop. As in TensorFlow.js, a step of 1 counts down when stop lies below. */
function range(attrs: unknown): Float32Array | Int32Array {
  const { start, stop, step, dtype } = attrs as tf.RangeAttrs
  const empty = start === stop || (start < stop && step < 0) || (stop < start && step > 1)
  const count = empty ? 0 : Math.abs(Math.ceil((stop - start) / step))
  const by = stop < start && step === 1 ? -1 : step
  const numbers = Array.from({ length: count }, (_, i) => start + i * by)
  return dtype === 'int32' ? Int32Array.from(numbers) : Float32Array.from(numbers)
}

function linSpace(attrs: unknown): Float32Array {
  const { start, stop, num } = attrs as tf.LinSpaceAttrs
  return Float32Array.from({ length: num }, (_, i) => start + (i * (stop - start)) / Math.max(num - 1, 1))
}

export const rearrangeOps = {
  BatchToSpaceND: batchToSpace,
  DepthToSpace: depthToSpace,
  FlipLeftRight: flipLeftRight,
  LinSpace: constant(linSpace),
  MirrorPad: mirrorPad,
  Range: constant(range),
  Reverse: reverse,
  SpaceToBatchND: spaceToBatch,
  StridedSlice: stridedSlice,
  TopK: topK,
} satisfies Record<string, Op>
