/** Cases of reductions: every axis subset, kept or not; arg-max and softmax. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { bools, fixed, floats, ints, values } from './harness.js'

type Reduce = (x: tf.Tensor, axis?: number | number[], keepDims?: boolean) => tf.Tensor

const differentiable: Record<string, Reduce> = { sum: tf.sum, mean: tf.mean, max: tf.max, min: tf.min }

const axesOfRank3 = [undefined, 0, 1, -1, [0, 1], [0, 2], [1, 2], [0, 1, 2], []]

export function axisSubsets(rank: number): number[][] {
  return Array.from({ length: 2 ** rank }, (_, bits) =>
    Array.from({ length: rank }, (_, i) => i).filter((i) => bits & (1 << i)),
  )
}

const over = (name: string, reduce: Reduce, argument: typeof floats): Case[] =>
  axesOfRank3.flatMap((axis) =>
    [false, true].map((keep) =>
      example(
        `${name} over ${axis === undefined ? 'all' : `[${axis}]`}${keep ? ', kept' : ''}`,
        [argument([2, 3, 4])],
        (x) => reduce(x, axis, keep),
      ),
    ),
  )

const fixedFloats = (...args: Parameters<typeof floats>) => fixed(floats(...args))

export const reductionCases: readonly Case[] = [
  ...Object.entries(differentiable).flatMap(([name, reduce]) => over(name, reduce, floats)),
  ...over('prod', tf.prod, fixedFloats),
  ...over('all', (x, axis, keep) => tf.all(tf.greater(x, -0.8), axis, keep), fixedFloats),
  ...over('any', (x, axis, keep) => tf.any(tf.greater(x, 0.8), axis, keep), fixedFloats),
  ...Object.entries({ ...differentiable, prod: tf.prod as Reduce }).map(([name, reduce]) =>
    example(`${name} of a scalar`, [name === 'prod' ? fixed(floats([])) : floats([])], (x) => reduce(x)),
  ),
  example('max and min of ties', [values([1, 3, 3, 0, 0, 2], [2, 3])], (x) => [tf.max(x, 1), tf.min(x, 0)]),
  example('reductions of integers', [ints([3, 4], -4, 5)], (x) => [
    tf.sum(x, 0),
    tf.mean(x, 1),
    tf.mean(x),
    tf.max(x, 0),
    tf.min(x, 1),
    tf.prod(x, 0),
  ]),
  example('mean of an integer', [ints([], 3, 4)], (x) => tf.mean(x)),
  example('sum of booleans', [bools([3, 4])], (x) => tf.sum(x, 0)),
  example('mean of booleans', [bools([3, 4])], (x) => tf.mean(x, 0)),
  example('all and any of a scalar', [bools([])], (x) => [tf.all(x), tf.any(x)]),
  ...[0, 1, 2, -1].map((axis) =>
    example(`argMax and argMin over ${axis}`, [fixed(floats([2, 3, 4]))], (x) => [
      tf.argMax(x, axis),
      tf.argMin(x, axis),
    ]),
  ),
  example('argMax of ties takes the first', [fixed(values([1, 3, 3, 0, 0, 0], [2, 3]))], (x) => [
    tf.argMax(x, 1),
    tf.argMin(x, 1),
  ]),
  example('argMax of integers', [ints([3, 4])], (x) => tf.argMax(x, 1)),
  example('argMax of a vector', [fixed(floats([7]))], (x) => tf.argMax(x)),
  ...[[5], [2, 5], [2, 3, 4], [2, 3, 2, 4]].flatMap((shape) => [
    example(`softmax [${shape}]`, [floats(shape, -3, 3)], (x) => tf.softmax(x)),
    example(`logSoftmax [${shape}]`, [floats(shape, -3, 3)], (x) => tf.logSoftmax(x)),
    example(`logSumExp [${shape}]`, [floats(shape, -3, 3)], (x) => tf.logSumExp(x, -1)),
  ]),
  example('softmax of large logits', [floats([2, 5], -200, 200)], (x) => [tf.softmax(x), tf.logSoftmax(x)]),
  example('moments', [floats([3, 4])], (x) => {
    const { mean, variance } = tf.moments(x, 0)
    return [mean, variance]
  }),
  example('euclidean norm', [floats([3, 4])], (x) => tf.norm(x, 'euclidean', 1)),
]
