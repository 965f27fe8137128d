/** Cases of ops that read and write by number, reorder, scan, resize and contract. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { bools, fixed, floats, ints, type TensorFunction, values } from './harness.js'

const matrix = (rows: number[][]): tf.Tensor2D => tf.tensor2d(rows, undefined, 'int32')

/** tf.gatherND from ops that have gradients in TensorFlow.js: indices [..., n] as numbers of rows. */
function gatherNdOracle(x: tf.Tensor, indices: tf.Tensor): tf.Tensor {
  const depth = indices.shape.at(-1)!
  const sizes = x.shape.slice(0, depth)
  const weights = sizes.map((_, i) => sizes.slice(i + 1).reduce((a, b) => a * b, 1))
  const rows = tf.sum(tf.mul(indices, tf.tensor1d(weights, 'int32')), -1)
  const flat = tf.reshape(x, [-1, ...x.shape.slice(depth)])
  return tf.gather(flat, tf.cast(rows, 'int32'))
}

const gathering: Case[] = [
  example(
    'gather with a batch',
    [floats([2, 4, 3]), ints([2, 5], 0, 4)],
    (x, i) => tf.gather(x, i, 1, 1),
    (x, i) => tf.stack(tf.unstack(x).map((each, k) => tf.gather(each, tf.unstack(i)[k] as tf.Tensor1D))),
  ),
  example(
    'gather with a batch along a later axis',
    [floats([2, 3, 4, 2]), ints([2, 2, 3], 0, 4)],
    (x, i) => tf.gather(x, i, 2, 1),
    (x, i) => tf.stack(tf.unstack(x).map((each, k) => tf.gather(each, tf.unstack(i)[k] as tf.Tensor1D, 1))),
  ),
  example('gatherND', [floats([3, 4, 2]), ints([2, 3, 2], 0, 3)], tf.gatherND, gatherNdOracle),
  example('gatherND of single numbers', [floats([3, 4]), ints([5, 2], 0, 3)], tf.gatherND, gatherNdOracle),
  example(
    'gatherND of integers and booleans',
    [ints([4, 2]), bools([4, 2]), ints([3, 1], 0, 4)],
    (a, b, i) => [tf.gatherND(a, i), tf.gatherND(b, i)],
  ),
  example(
    'scatterND, some twice',
    [floats([4, 2])],
    (x) => tf.scatterND(matrix([[0], [2], [0], [1]]), x, [4, 2]),
    (x) => tf.unsortedSegmentSum(x, tf.tensor1d([0, 2, 0, 1], 'int32'), 4),
  ),
  example('scatterND of integers', [ints([3])], (x) =>
    tf.scatterND(
      matrix([
        [0, 1],
        [2, 2],
        [1, 0],
      ]),
      x,
      [3, 3],
    ),
  ),
  example(
    'tensorScatterUpdate',
    [floats([4, 2]), floats([2, 2])],
    (x, updates) => tf.tensorScatterUpdate(x, matrix([[3], [1]]), updates),
    (x, updates) => {
      const [a, , c] = tf.unstack(x)
      const [d, b] = tf.unstack(updates)
      return tf.stack([a!, b!, c!, d!])
    },
  ),
  example(
    'unsortedSegmentSum drops other numbers',
    [floats([6, 2])],
    (x) => tf.unsortedSegmentSum(x, tf.tensor1d([0, -1, 2, 3, 1, 2], 'int32'), 3),
    (x) =>
      tf.unsortedSegmentSum(
        tf.mul(x, [[1], [0], [1], [0], [1], [1]]),
        tf.tensor1d([0, 0, 2, 0, 1, 2], 'int32'),
        3,
      ),
  ),
  example('booleanMask written as where', [floats([4, 3]), bools([4, 1])], (x, mask) =>
    tf.where(mask, x, tf.zerosLike(x)),
  ),
]

/** Values by their places, which an eager run knows. */
const topKOracle =
  (k: number): TensorFunction =>
  (x) => {
    const { indices } = tf.topk(tf.tensor(x.dataSync(), x.shape), k)
    return [tf.sum(tf.mul(tf.oneHot(indices, x.shape.at(-1)!), tf.expandDims(x, -2)), -1), indices]
  }

const topK =
  (k: number): TensorFunction =>
  (x) => {
    const { values, indices } = tf.topk(x, k)
    return [values, indices]
  }

const ordering: Case[] = [
  ...[[0], [1], [-1], [0, 2], [0, 1, 2], []].map((axes) =>
    example(`reverse [${axes}]`, [floats([2, 3, 4])], (x) => tf.reverse(x, axes)),
  ),
  example('reverse of integers and booleans', [ints([2, 3]), bools([4])], (a, b) => [
    tf.reverse(a, 1),
    tf.reverse(b),
  ]),
  example('flipLeftRight', [fixed(floats([2, 3, 4, 2]))], (x) => tf.image.flipLeftRight(x)),
  example(
    'stridedSlice',
    [floats([4, 5])],
    (x) => tf.stridedSlice(x, [0, 1], [4, 5], [2, 3]),
    (x) => tf.gather(tf.gather(x, [0, 2]), [1, 4], 1),
  ),
  example(
    'stridedSlice backwards',
    [floats([5, 2])],
    (x) => tf.stridedSlice(x, [-1, 0], [0, 2], [-2, 1], 0, 2),
    (x) => tf.gather(x, [4, 2]),
  ),
  example(
    'stridedSlice to before the first',
    [floats([4])],
    (x) => tf.stridedSlice(x, [0], [0], [-1], 1, 1),
    (x) => tf.reverse(x),
  ),
  example(
    'stridedSlice that drops a dimension',
    [floats([3, 4, 2])],
    (x) => tf.stridedSlice(x, [1, 0, 1], [2, 4, 2], [1, 1, 1], 0, 0, 0, 0, 5),
    (x) => tf.reshape(tf.slice(x, [1, 0, 1], [1, 4, 1]), [4]),
  ),
  ...[1, 2, 4].map((k) => example(`topk ${k}`, [floats([2, 3, 4])], topK(k), topKOracle(k))),
  example('topk of integers', [fixed(values([3, 1, 4, 2]))], (x) => topK(3)(tf.cast(x, 'int32') as never)),
  example('range and linspace', [floats([4])], (x) => [
    tf.add(x, tf.range(0, 4)),
    tf.add(x, tf.linspace(-1, 1, 4)),
    tf.range(5, 1),
    tf.range(7, 1, -2, 'int32'),
    tf.range(0, 1, 0.3),
    tf.linspace(3, 3, 1),
  ]),
  example('bandPart', [floats([2, 4, 4])], (x) => tf.linalg.bandPart(x, 1, 0)),
]

const mirrors: Case[] = (['reflect', 'symmetric'] as const).flatMap((mode) => [
  // The sum of the parts that were copied: TensorFlow.js itself takes only the middle's gradient.
  example(
    `mirrorPad ${mode}`,
    [floats([3, 4])],
    (x) =>
      tf.mirrorPad(
        x,
        [
          [1, 2],
          [2, 0],
        ],
        mode,
      ),
    (x) => {
      const rows = mode === 'reflect' ? [1, 0, 1, 2, 1, 0] : [0, 0, 1, 2, 2, 1]
      const columns = mode === 'reflect' ? [2, 1, 0, 1, 2, 3] : [1, 0, 0, 1, 2, 3]
      return tf.gather(tf.gather(x, rows), columns, 1)
    },
  ),
  example(`mirrorPad ${mode} of integers`, [ints([5])], (x) => tf.mirrorPad(x, [[2, 2]], mode)),
])

const scans: Case[] = [0, 1, 2, -1].flatMap((axis) =>
  [false, true].flatMap((exclusive) =>
    [false, true].flatMap((reverse) => {
      const name = `over ${axis}${exclusive ? ', exclusive' : ''}${reverse ? ', reversed' : ''}`
      const at = (axis + 3) % 3
      const perm = [0, 1, 2].map((i) => (i === at ? 2 : i === 2 ? at : i))
      return [
        example(
          `cumsum ${name}`,
          [floats([3, 3, 3])],
          (x) => tf.cumsum(x, axis, exclusive, reverse),
          // TensorFlow.js' gradient is right for the last axis only.
          (x) => tf.transpose(tf.cumsum(tf.transpose(x, perm), 2, exclusive, reverse), perm),
        ),
        example(`cumprod ${name}`, [fixed(floats([3, 4, 5]))], (x) => tf.cumprod(x, at, exclusive, reverse)),
      ]
    }),
  ),
)

/** The product of a few rows, factor by factor. */
const multiplied = (rows: tf.Tensor[]): tf.Tensor => rows.reduce((a, b) => tf.mul(a, b))

const products: Case[] = [
  ...[0, 1, -1].map((axis) =>
    example(
      `prod over ${axis}, trained`,
      [floats([2, 3])],
      (x) => tf.prod(x, axis),
      (x) => multiplied(tf.unstack(x, axis)),
    ),
  ),
  example(
    'prod over all, trained',
    [floats([2, 3])],
    (x) => tf.prod(x),
    (x) => multiplied(tf.unstack(tf.reshape(x, [6]))),
  ),
  example(
    'prod over two of three axes, one factor 0',
    [values([1, 2, 3, 0, 5, 6, 7, 8, 9, 1, 2, 3], [2, 3, 2])],
    (x) => tf.prod(x, [0, 2]),
    (x) => multiplied(tf.unstack(tf.reshape(tf.transpose(x, [1, 0, 2]), [3, 4]), 1)),
  ),
]

const blocks: Case[] = [
  example('spaceToBatchND', [floats([1, 4, 6, 2])], (x) =>
    tf.spaceToBatchND(
      x,
      [2, 3],
      [
        [0, 0],
        [1, 2],
      ],
    ),
  ),
  example('batchToSpaceND', [floats([6, 2, 3, 2])], (x) =>
    tf.batchToSpaceND(
      x,
      [2, 3],
      [
        [1, 0],
        [0, 2],
      ],
    ),
  ),
  example(
    'depthToSpace',
    [floats([2, 2, 3, 8])],
    (x) => tf.depthToSpace(x, 2),
    (x) => tf.reshape(tf.transpose(tf.reshape(x, [2, 2, 3, 2, 2, 2]), [0, 1, 3, 2, 4, 5]), [2, 4, 6, 2]),
  ),
]

const sizes: [number, number][] = [
  [8, 6],
  [3, 2],
  [4, 3],
  [1, 1],
  [7, 5],
]

/** Rows and columns of an image by number: nearest-neighbour resizing, which has the right gradient. */
const picked = (x: tf.Tensor, rows: number[], columns: number[]): tf.Tensor =>
  tf.gather(tf.gather(x, rows, 1), columns, 2)

const resizing: Case[] = [
  ...sizes.flatMap((size) =>
    [false, true].flatMap((align) => [
      // TensorFlow.js' gradient has height and width of its result exchanged: a square image.
      example(`resizeBilinear to ${size}${align ? ', corners aligned' : ''}`, [floats([2, 4, 4, 3])], (x) =>
        tf.image.resizeBilinear(x, size, align),
      ),
      example(
        `resizeNearestNeighbor to ${size}${align ? ', corners aligned' : ''}`,
        // TensorFlow.js' gradient is right for the first image of a batch only.
        [floats([1, 4, 3, 2])],
        (x) => tf.image.resizeNearestNeighbor(x, size, align),
      ),
      example(`resizeBilinear to ${size}, centres, forward`, [fixed(floats([2, 4, 3, 2]))], (x) =>
        tf.image.resizeBilinear(x, size, false, true),
      ),
      example(`resizeNearestNeighbor to ${size}, centres, forward`, [fixed(floats([2, 4, 3, 2]))], (x) =>
        tf.image.resizeNearestNeighbor(x, size, false, true),
      ),
    ]),
  ),
  example(
    'resizeNearestNeighbor with centres, trained',
    [floats([1, 4, 3, 2])],
    (x) => tf.image.resizeNearestNeighbor(x, [2, 6], false, true),
    (x) => picked(x, [1, 3], [0, 0, 1, 1, 2, 2]),
  ),
  example(
    'resizeBilinear with centres, trained, not square',
    [floats([1, 4, 3, 2])],
    (x) => tf.image.resizeBilinear(x, [2, 6], false, true),
    (x) => {
      const tall = tf.div(tf.add(picked(x, [0, 2], [0, 1, 2]), picked(x, [1, 3], [0, 1, 2])), 2)
      const near = picked(tall, [0, 1], [0, 0, 1, 1, 2, 2])
      const far = picked(tall, [0, 1], [0, 1, 0, 2, 1, 2])
      return tf.add(tf.mul(near, 0.75), tf.mul(far, 0.25))
    },
  ),
  example('resizeNearestNeighbor of integers', [ints([1, 2, 2, 1])], (x) =>
    tf.cast(tf.image.resizeNearestNeighbor(x, [4, 4]), 'float32'),
  ),
  example('localResponseNormalization', [floats([2, 3, 2, 7])], (x) =>
    tf.localResponseNormalization(x, 2, 1, 0.3, 0.7),
  ),
  example('localResponseNormalization of all channels', [floats([1, 2, 2, 3], -2, 2)], (x) =>
    tf.localResponseNormalization(x),
  ),
]

const contraction: Case[] = [
  example(
    'einsum ij,jk->ik',
    [floats([2, 3]), floats([3, 4])],
    (a, b) => tf.einsum('ij,jk->ik', a, b),
    (a, b) => tf.matMul(a, b),
  ),
  example(
    'einsum of attention',
    [floats([2, 3, 2, 4]), floats([2, 5, 2, 4])],
    (q, k) => tf.einsum('bqhd,bkhd->bhqk', q, k),
    (q, k) => tf.matMul(tf.transpose(q, [0, 2, 1, 3]), tf.transpose(k, [0, 2, 1, 3]), false, true),
  ),
  example(
    'einsum that transposes',
    [floats([2, 3])],
    (a) => tf.einsum('ij->ji', a),
    (a) => tf.transpose(a),
  ),
  example(
    'einsum that sums',
    [floats([2, 3])],
    (a) => tf.einsum('ij->i', a),
    (a) => tf.sum(a, 1),
  ),
  example(
    'einsum that sums a letter of one operand',
    [floats([2, 3]), floats([3, 4])],
    (a, b) => tf.einsum('ij,jk->i', a, b),
    (a, b) => tf.sum(tf.matMul(a, b), 1),
  ),
  // The gradient of a broadcast batch, which TensorFlow.js has wrong.
  example(
    'matMul, 3-D times 2-D, trained',
    [floats([2, 4, 3]), floats([3, 5])],
    (a, b) => tf.matMul(a, b),
    (a, b) => tf.reshape(tf.matMul(tf.reshape(a, [8, 3]), b), [2, 4, 5]),
  ),
  example(
    'matMul, 2-D times 3-D transposed, trained',
    [floats([4, 3]), floats([2, 5, 3])],
    (a, b) => tf.matMul(a, b, false, true),
    (a, b) => tf.stack(tf.unstack(b).map((each) => tf.matMul(a, each, false, true))),
  ),
  ...(
    [
      ['maximum', tf.maximum],
      ['minimum', tf.minimum],
      ['squaredDifference', tf.squaredDifference],
    ] as const
  ).map(([name, op]) =>
    example(
      `${name}, broadcast, trained`,
      [floats([2, 1, 3]), floats([4, 1])],
      (a, b) => op(a, b),
      (a, b) => op(tf.broadcastTo(a, [2, 4, 3]), tf.broadcastTo(b, [2, 4, 3])),
    ),
  ),
]

export const rearrangeCases: readonly Case[] = [
  ...gathering,
  ...ordering,
  ...mirrors,
  ...scans,
  ...products,
  ...blocks,
  ...resizing,
  ...contraction,
]
