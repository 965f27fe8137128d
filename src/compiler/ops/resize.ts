/**
 * Resizing images. Each output row (and column) is a weighted sum of input rows, so bilinear resizing is one product
 * with a matrix of weights per direction, and every gradient the product with its transpose.
 */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { FLOAT, NUMERIC, type Op } from './op.js'

type Attrs = tf.ResizeBilinearAttrs

/** How many input pixels lie between two neighbouring output pixels. */
function scaleOf(from: number, to: number, { alignCorners }: Attrs): number {
  return alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to
}

/** The input pixel nearest to each output pixel. */
function nearest(from: number, to: number, attrs: Attrs): number[] {
  const scale = scaleOf(from, to, attrs)
  return Array.from({ length: to }, (_, i) => {
    const at = attrs.halfPixelCenters ? scale * (i + 0.5) : scale * i
    return Math.max(0, Math.min(from - 1, attrs.alignCorners ? Math.round(at) : Math.floor(at)))
  })
}

type Weights = (from: number, to: number, attrs: Attrs) => Float32Array

/** [to, from]: a one at each output pixel's nearest. */
const nearestWeights: Weights = (from, to, attrs) => {
  const weights = new Float32Array(to * from)
  nearest(from, to, attrs).forEach((at, i) => {
    weights[i * from + at] = 1
  })
  return weights
}

/** [to, from]: the shares of the two neighbours of each output pixel. */
const bilinearWeights: Weights = (from, to, attrs) => {
  const scale = scaleOf(from, to, attrs)
  const weights = new Float32Array(to * from)
  for (let i = 0; i < to; i++) {
    const at = attrs.halfPixelCenters ? scale * (i + 0.5) - 0.5 : scale * i
    const below = Math.max(0, Math.floor(at))
    const above = Math.min(from - 1, Math.max(0, Math.ceil(at)))
    weights[i * from + below]! += 1 - (at - below)
    weights[i * from + above]! += at - below
  }
  return weights
}

/** Rows, then columns, of images [n, h, w, c] mixed by weights [out, in]. */
function mix(
  b: Builder,
  x: string,
  shape: readonly number[],
  rows: string,
  columns: string,
  to: readonly number[],
) {
  const [n, h, w, c] = shape as [number, number, number, number]
  const [newH, newW] = to as [number, number]
  const tall = b.add('MatMul', [rows, b.reshape(x, [n, h, w * c])])
  const wide = b.add('MatMul', [columns, b.reshape(tall, [n * newH, w, c])])
  return b.reshape(wide, [n, newH, newW, c])
}

function weightsOf(b: Builder, from: number, to: number, attrs: Attrs, weights: Weights): string {
  return b.constant('float32', [to, from], weights(from, to, attrs))
}

const infer: Op['infer'] = ([images], attrs) => {
  const [n, , , c] = images!.shape as [number, number, number, number]
  return [{ shape: [n, ...(attrs as Attrs).size, c], dtype: images!.dtype }]
}

const bilinear: Op = {
  inputs: ['images'],
  dtypes: FLOAT,
  infer,
  lower: (b, node) => {
    const [images] = node.inputs as [Value]
    const attrs = node.attrs as Attrs
    const [, h, w] = images.shape as [number, number, number]
    const rows = weightsOf(b, h, attrs.size[0], attrs, bilinearWeights)
    const columns = weightsOf(b, w, attrs.size[1], attrs, bilinearWeights)
    b.define(node.outputs[0]!, mix(b, b.plain(images), images.shape, rows, columns, attrs.size))
  },
}

/** Nothing is mixed here: rows and columns are copied. */
const nearestNeighbor: Op = {
  inputs: ['images'],
  dtypes: NUMERIC,
  infer,
  lower: (b, node) => {
    const [images] = node.inputs as [Value]
    const attrs = node.attrs as Attrs
    const [, h, w] = images.shape as [number, number, number]
    const tall = b.add('Gather', [b.plain(images), b.ints(nearest(h, attrs.size[0], attrs))], { axis: 1 })
    const wide = b.add('Gather', [tall, b.ints(nearest(w, attrs.size[1], attrs))], { axis: 2 })
    b.define(node.outputs[0]!, wide)
  },
}

const gradient = (weights: Weights): Op => ({
  inputs: ['dy', 'images'],
  dtypes: FLOAT,
  infer: ([, images]) => [images!],
  lower: (b, node) => {
    const [dy, images] = node.inputs as [Value, Value]
    const attrs = node.attrs as Attrs
    const [, h, w] = images.shape as [number, number, number]
    const [, newH, newW] = dy.shape as [number, number, number]
    const transposed = (from: number, to: number) =>
      b.transpose(weightsOf(b, from, to, attrs, weights), [1, 0])
    const mixed = mix(b, b.plain(dy), dy.shape, transposed(h, newH), transposed(w, newW), [h, w])
    b.define(node.outputs[0]!, mixed)
  },
})

export const resizeOps = {
  ResizeBilinear: bilinear,
  ResizeBilinearGrad: gradient(bilinearWeights),
  ResizeNearestNeighbor: nearestNeighbor,
  ResizeNearestNeighborGrad: gradient(nearestWeights),
} satisfies Record<string, Op>
