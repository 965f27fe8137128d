/** Ops that read and write by number: the gradient of reading is adding up, the gradient of writing is reading. */
import * as tf from '@tensorflow/tfjs-core'
import { type Gradient, gradient } from './gradient.js'

const gatherNd = gradient<object>(['params', 'indices'], (dy, saved) => {
  const [params, indices] = saved as [tf.Tensor, tf.Tensor]
  return { params: () => tf.scatterND(indices, dy, params.shape), indices: () => tf.zerosLike(indices) }
})

const scatterNd = gradient<object>(['indices'], (dy, saved) => {
  const [indices] = saved as [tf.Tensor]
  return { updates: () => tf.gatherND(dy, indices), indices: () => tf.zerosLike(indices) }
})

const tensorScatterUpdate = gradient<object>(['indices', 'updates'], (dy, saved) => {
  const [indices, updates] = saved as [tf.Tensor, tf.Tensor]
  return {
    tensor: () => tf.tensorScatterUpdate(dy, indices, tf.zerosLike(updates)),
    updates: () => tf.gatherND(dy, indices),
    indices: () => tf.zerosLike(indices),
  }
})

/** Rows whose number is no segment's were left out, and get no gradient. */
const segmentSum = gradient<object>(['segmentIds'], (dy, saved) => {
  const [ids] = saved as [tf.Tensor1D]
  return {
    x: () => {
      const near = tf.clipByValue(ids, 0, dy.shape[0]! - 1) as tf.Tensor1D
      const rows = tf.gather(dy, near)
      const isInside = tf.reshape(tf.equal(ids, near), [ids.size, ...dy.shape.slice(1).map(() => 1)])
      return tf.where(isInside, rows, tf.zerosLike(rows))
    },
  }
})

/** Row i of batch b is row b · size + i of all batches together, so that one segment sum does them all. */
const batchGather = (original: Gradient): Gradient => ({
  inputsToSave: ['x', 'indices'],
  gradFunc: (dy, saved, attrs) => {
    const { axis, batchDims } = attrs as unknown as tf.GatherV2Attrs
    if (batchDims !== 1) return original.gradFunc(dy, saved, attrs)
    const [x, indices] = saved as [tf.Tensor, tf.Tensor]
    return {
      x: () => batchGatherGradient(dy as tf.Tensor, x.shape, indices, axis < 0 ? axis + x.rank : axis),
      indices: () => tf.zerosLike(indices),
    }
  },
})

function batchGatherGradient(dy: tf.Tensor, shape: number[], indices: tf.Tensor, axis: number): tf.Tensor {
  const [batch, size] = [shape[0]!, shape[axis]!]
  const between = shape.slice(1, axis)
  const after = shape.slice(axis + 1)
  const rows = indices.size / batch
  const flat = tf.reshape(dy, [batch, product(between), rows, product(after)])
  const byRow = tf.reshape(tf.transpose(flat, [0, 2, 1, 3]), [batch * rows, -1])
  const offsets = tf.tensor2d(
    Array.from({ length: batch }, (_, i) => i * size),
    [batch, 1],
    'int32',
  )
  const ids = tf.reshape(tf.add(tf.reshape(indices, [batch, rows]), offsets), [-1])
  const sums = tf.unsortedSegmentSum(byRow, ids as tf.Tensor1D, batch * size)
  const parted = tf.reshape(sums, [batch, size, product(between), product(after)])
  return tf.reshape(tf.transpose(parted, [0, 2, 1, 3]), shape)
}

const product = (shape: number[]): number => shape.reduce((a, b) => a * b, 1)

/** Of the values; equal ones count at the places that were found. */
const topK: Gradient = {
  inputsToSave: ['x'],
  outputsToSave: [false, true],
  gradFunc: (dys, saved) => {
    const [x, indices] = saved as [tf.Tensor, tf.Tensor]
    return {
      x: () => {
        const hits = tf.oneHot(indices, x.shape.at(-1)!)
        return tf.sum(tf.mul(hits, tf.expandDims((dys as tf.Tensor[])[0]!, -1)), -2)
      },
    }
  },
}

/** Each element of dy goes back to the place that it was taken from; the places are numbers known while tracing. */
const stridedSlice = gradient<tf.StridedSliceAttrs>(['x'], (dy, saved, attrs) => {
  const [x] = saved as [tf.Tensor]
  return {
    x: () => {
      const ids = tf.tensor1d(placesOf(x.shape, attrs), 'int32')
      return tf.reshape(tf.unsortedSegmentSum(tf.reshape(dy, [-1]), ids, x.size), x.shape)
    },
  }
})

/** The flat positions in a tensor of `shape` that a strided slice takes, in order. */
function placesOf(shape: number[], attrs: tf.StridedSliceAttrs): number[] {
  const { begin, end, strides } = tf.slice_util.sliceInfo(
    shape,
    attrs.begin,
    attrs.end,
    attrs.strides,
    attrs.beginMask,
    attrs.endMask,
    attrs.ellipsisMask,
    attrs.newAxisMask,
    attrs.shrinkAxisMask,
  )
  const counts = tf.slice_util.computeOutShape(begin, end, strides)
  return shape.reduce<number[]>(
    (places, size, axis) =>
      places.flatMap((place) =>
        Array.from({ length: counts[axis]! }, (_, i) => place * size + begin[axis]! + i * strides[axis]!),
      ),
    [0],
  )
}

export const indexingGradients = {
  GatherNd: gatherNd,
  GatherV2: batchGather(tf.getGradient('GatherV2')!),
  ScatterNd: scatterNd,
  StridedSlice: stridedSlice,
  TensorScatterUpdate: tensorScatterUpdate,
  TopK: topK,
  UnsortedSegmentSum: segmentSum,
}
