/** Cases of ops that move, repeat or make values. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { bools, fixed, floats, ints } from './harness.js'

export const shapeCases: readonly Case[] = [
  ...[0, 1, 2, -1].map((axis) =>
    example(`gather, axis ${axis}, numbers repeated`, [floats([4, 3, 3]), ints([5], 0, 3)], (x, i) =>
      tf.gather(x, i as unknown as tf.Tensor1D, axis),
    ),
  ),
  example('gather of rows by a matrix of numbers', [floats([5, 3]), ints([2, 4], 0, 5)], (x, i) =>
    tf.gather(x, i as unknown as tf.Tensor1D),
  ),
  example('unsortedSegmentSum', [floats([6, 2]), ints([6], 0, 3)], (x, i) =>
    tf.unsortedSegmentSum(x, i as unknown as tf.Tensor1D, 4),
  ),
  example('reshape', [floats([2, 6])], (x) => tf.reshape(x, [3, 4])),
  example('reshape with an implicit dimension', [floats([2, 3, 4])], (x) => tf.reshape(x, [2, -1])),
  example('reshape to and from a scalar', [floats([])], (x) => tf.reshape(tf.reshape(x, [1, 1]), [])),
  example('reshape there and back', [floats([2, 6])], (x) =>
    tf.mul(tf.reshape(tf.reshape(x, [12]), [2, 6]), x),
  ),
  example('squeeze', [floats([1, 3, 1])], (x) => tf.squeeze(x)),
  ...[0, 1, 2, -1].map((axis) =>
    example(`expandDims ${axis}`, [floats([2, 3])], (x) => tf.expandDims(x, axis)),
  ),
  ...[
    [1, 0, 2],
    [2, 1, 0],
    [2, 0, 1],
    [0, 1, 2],
  ].map((perm) => example(`transpose ${perm}`, [floats([2, 3, 4])], (x) => tf.transpose(x, perm))),
  example('transpose of rank 4', [floats([2, 3, 4, 2])], (x) => tf.transpose(x, [0, 2, 1, 3])),
  example('transpose of all dimensions', [floats([2, 3])], (x) => tf.transpose(x)),
  example('slice', [floats([3, 4, 2])], (x) => tf.slice(x, [1, 0, 1], [2, 3, 1])),
  example('slice to the end', [floats([3, 4])], (x) => tf.slice(x, [1, 2], [-1, -1])),
  example('slice of everything', [floats([3, 4])], (x) => tf.slice(x, [0, 0], [3, 4])),
  example('slice of a vector', [floats([7])], (x) => tf.slice(x, [2], [3])),
  example('slice of rank 4', [floats([2, 4, 3, 2])], (x) => tf.slice(x, [0, 1, 1, 0], [2, 2, 2, 1])),
  example('an empty slice', [fixed(floats([3, 4]))], (x) => tf.slice(x, [1, 0], [0, 4])),
  example('pad', [floats([2, 3])], (x) =>
    tf.pad(
      x,
      [
        [1, 0],
        [0, 2],
      ],
      0.5,
    ),
  ),
  example('pad with infinities', [floats([2])], (x) => {
    const low = tf.pad(x, [[1, 1]], -Infinity)
    const high = tf.pad(x, [[1, 1]], Infinity)
    return [tf.minimum(high, 5), tf.maximum(low, -5)]
  }),
  example('pad of rank 4', [floats([1, 2, 3, 2])], (x) =>
    tf.pad(x, [
      [0, 0],
      [1, 2],
      [2, 1],
      [0, 1],
    ]),
  ),
  example('pad of integers and booleans', [ints([3]), bools([3])], (a, b) => [
    tf.pad(a, [[1, 1]], 7),
    tf.pad(b, [[1, 1]], 0),
  ]),
  ...[0, 1, -1].map((axis) =>
    example(`concat along ${axis}`, [floats([2, 3]), floats([2, 3])], (a, b) => tf.concat([a, b], axis)),
  ),
  example('concat of three sizes', [floats([2, 1]), floats([2, 3]), floats([2, 2])], (...xs) =>
    tf.concat(xs, 1),
  ),
  example('concat with an empty tensor', [floats([2, 3]), floats([0, 3])], (a, b) => tf.concat([a, b], 0)),
  example('concat of empty tensors', [fixed(floats([0, 3])), fixed(floats([0, 3]))], (a, b) =>
    tf.concat([a, b], 1),
  ),
  example('concat of one', [floats([2, 3])], (a) => tf.concat([a], 0)),
  example('concat with itself', [floats([2, 3])], (a) => tf.concat([a, a], 0)),
  ...[0, 1, 2].map((axis) =>
    example(`stack along ${axis}`, [floats([2, 3]), floats([2, 3])], (a, b) => tf.stack([a, b], axis)),
  ),
  example('stack of scalars', [floats([]), floats([])], (a, b) => tf.stack([a, b])),
  ...[0, 1, 2].map((axis) =>
    example(`unstack along ${axis}`, [floats([2, 3, 2])], (x) => tf.unstack(x, axis)),
  ),
  example(
    'unstack of one',
    [floats([1, 3])],
    (x) => tf.unstack(x),
    (x) => tf.reshape(x, [3]),
  ),
  example(
    'split into one',
    [floats([2, 3])],
    (x) => tf.split(x, 1),
    (x) => tf.mul(x, 1),
  ),
  example('unstack of a vector', [floats([3])], (x) => tf.unstack(x)),
  example('split into equal parts', [floats([4, 3])], (x) => tf.split(x, 2)),
  example('split into sizes', [floats([2, 6])], (x) => tf.split(x, [1, 3, 2], 1)),
  example('split, the rest by -1', [floats([2, 6])], (x) => tf.split(x, [1, -1, 2], 1)),
  example('split, one part used', [floats([2, 6])], (x) => tf.split(x, 3, 1)[1]!),
  example('tile', [floats([2, 3])], (x) => tf.tile(x, [2, 3])),
  example('tile of a vector', [floats([3])], (x) => tf.tile(x, [2])),
  example('tile by one', [floats([2, 3])], (x) => tf.tile(x, [1, 1])),
  example('tile of integers and booleans', [ints([3]), bools([3])], (a, b) => [
    tf.tile(a, [2]),
    tf.tile(b, [2]),
  ]),
  example('broadcastTo', [floats([1, 3])], (x) => tf.broadcastTo(x, [2, 4, 3])),
  example('fill', [floats([2, 3])], (x) => tf.add(x, tf.fill([2, 3], 2.5))),
  example('fill with other dtypes', [fixed(floats([2]))], (x) => [
    tf.add(x, tf.fill([2], Infinity)),
    tf.add(x, tf.fill([2], -Infinity)),
    tf.fill([3], 4, 'int32'),
    tf.fill([2], 1, 'bool'),
  ]),
  example('zerosLike and onesLike of integers and booleans', [ints([3]), bools([3])], (a, b) =>
    [a, b].flatMap((x) => [tf.zerosLike(x), tf.onesLike(x)]),
  ),
  example('oneHot', [ints([4], 0, 3)], (x) => tf.oneHot(x, 3)),
  example('oneHot out of range', [ints([6], -2, 6)], (x) => tf.oneHot(x, 3, 2, -1)),
  example('oneHot of rank 2, and as integers', [ints([2, 3], 0, 4)], (x) => [
    tf.oneHot(x, 4),
    tf.oneHot(x, 4, 1, 0, 'int32'),
    tf.oneHot(x, 4, 1, 0, 'bool'),
  ]),
  example('an output that is an input', [fixed(floats([2, 3])), ints([2])], (a, b) => [a, b, tf.clone(a)]),
  example('constants of every dtype', [floats([3])], (x) => [
    tf.add(x, [1, 2, 3]),
    tf.mul(x, tf.tensor([1, 0, 1], [3], 'bool')),
    tf.add(x, tf.tensor([1, 2, 3], [3], 'int32')),
  ]),
  example('moved but not computed with', [bools([2, 3])], (x) => [
    tf.transpose(x),
    tf.slice(x, [0, 1], [2, 2]),
    tf.concat([x, x], 1),
    tf.reshape(x, [6]),
    tf.broadcastTo(x, [2, 2, 3]),
  ]),
]
