/** Cases of matrix products: transposed, batched, broadcast, fused with bias and activation. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { fixed, floats } from './harness.js'

const flags = [false, true] as const
const swapped = (shape: readonly number[], swap: boolean): number[] =>
  swap ? [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!] : [...shape]

const transposed = (left: readonly number[], right: readonly number[]): Case[] =>
  flags.flatMap((a) =>
    flags.map((b) =>
      example(
        `[${left}]${a ? 'ᵀ' : ''} · [${right}]${b ? 'ᵀ' : ''}`,
        [floats(swapped(left, a)), floats(swapped(right, b))],
        (x, y) => tf.matMul(x, y, a, b),
      ),
    ),
  )

const activations = ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu'] as const

type Fused = Omit<Parameters<typeof tf.fused.matMul>[0], 'a' | 'b'>

const fused = (name: string, biasShape: readonly number[], options: (bias: tf.Tensor) => Fused): Case[] => {
  const args = [floats([4, 3]), floats([3, 5]), floats(biasShape)]
  const f = (a: tf.Tensor, b: tf.Tensor, bias: tf.Tensor) => tf.fused.matMul({ a, b, ...options(bias) })
  return [example(`${name}, training`, args, f), example(`${name}, forward`, args.map(fixed), f)]
}

export const matmulCases: readonly Case[] = [
  ...transposed([4, 3], [3, 5]),
  ...transposed([2, 4, 3], [2, 3, 5]),
  ...transposed([1, 4, 3], [1, 3, 5]),
  ...transposed([2, 3, 4, 3], [2, 3, 3, 2]),
  // Tall enough for a convolution instead of a GEMM, the larger side left and right, and one whose rows fill no blocks.
  ...(
    [
      [256, 192, 176],
      [256, 176, 192],
      [257, 192, 176],
    ] as const
  ).map(([rows, m, n]) =>
    example(`over ${rows} rows, [${m},${n}]`, [fixed(floats([rows, m])), fixed(floats([rows, n]))], (a, b) =>
      tf.matMul(a, b, true),
    ),
  ),
  example('vectors', [floats([5]), floats([5])], (a, b) =>
    tf.dot(a as unknown as tf.Tensor1D, b as unknown as tf.Tensor1D),
  ),
  example('one row', [floats([1, 3]), floats([3, 1])], (a, b) => tf.matMul(a, b)),
  // TensorFlow.js has no gradient of a broadcast batch.
  example('3-D times 2-D', [fixed(floats([2, 4, 3])), fixed(floats([3, 5]))], (a, b) => tf.matMul(a, b)),
  example('2-D times 3-D', [fixed(floats([4, 3])), fixed(floats([2, 3, 5]))], (a, b) =>
    tf.matMul(a, b, false, false),
  ),
  example('4-D times 3-D', [fixed(floats([2, 3, 4, 3])), fixed(floats([1, 5, 3]))], (a, b) =>
    tf.matMul(a, b, false, true),
  ),
  example('a 1-batch times a batch', [fixed(floats([1, 4, 3])), fixed(floats([2, 3, 5]))], (a, b) =>
    tf.matMul(a, b),
  ),
  ...activations.flatMap((activation) =>
    fused(`fused with ${activation}`, [5], (bias) => ({ bias, activation, leakyreluAlpha: 0.2 })),
  ),
  ...fused('fused with a bias of rank 2', [1, 5], (bias) => ({ bias })),
  ...fused('fused with leakyrelu of 0.4', [5], (bias) => ({
    bias,
    activation: 'leakyrelu',
    leakyreluAlpha: 0.4,
  })),
  example('fused without bias', [fixed(floats([4, 3])), fixed(floats([3, 5]))], (a, b) =>
    tf.fused.matMul({ a, b, activation: 'relu' }),
  ),
  example(
    'fused and transposed',
    [fixed(floats([3, 4])), fixed(floats([5, 3])), fixed(floats([5]))],
    (a, b, bias) => tf.fused.matMul({ a, b, bias, transposeA: true, transposeB: true, activation: 'elu' }),
  ),
  example(
    'fused, a batch',
    [fixed(floats([2, 4, 3])), fixed(floats([2, 3, 5])), fixed(floats([5]))],
    (a, b, bias) => tf.fused.matMul({ a, b, bias, activation: 'relu' }),
  ),
  example(
    'fused, a batch of one',
    [fixed(floats([1, 4, 3])), fixed(floats([1, 3, 5])), fixed(floats([1, 1, 5]))],
    (a, b, bias) => tf.fused.matMul({ a, b, bias, activation: 'relu' }),
  ),
]
