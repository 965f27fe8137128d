/** Cases of elementwise ops: every op alone, then the ways in which two operands broadcast. */
import * as tf from '@tensorflow/tfjs-core'
import { type Case, example } from './case.js'
import { bools, fixed, floats, ints, values } from './harness.js'

type Unary = (x: tf.Tensor) => tf.Tensor

const signed: Record<string, Unary> = {
  abs: tf.abs,
  ceil: tf.ceil,
  'clipByValue of part': (x) => tf.clipByValue(x, -0.5, 0.4),
  'clipByValue of an open interval': (x) =>
    tf.add(tf.clipByValue(x, 0, Infinity), tf.clipByValue(x, -Infinity, 0.5)),
  cos: tf.cos,
  elu: tf.elu,
  erf: tf.erf,
  exp: tf.exp,
  floor: tf.floor,
  leakyRelu: (x) => tf.leakyRelu(x, 0.3),
  asin: (x) => tf.asin(tf.mul(x, 0.9)),
  acos: (x) => tf.acos(tf.mul(x, 0.9)),
  asinh: tf.asinh,
  atan: tf.atan,
  atanh: (x) => tf.atanh(tf.mul(x, 0.9)),
  cosh: tf.cosh,
  expm1: tf.expm1,
  'expm1 of small numbers': (x) => tf.mul(tf.expm1(tf.mul(x, 1e-4)), 1e4),
  'expm1 of large numbers': (x) => tf.expm1(tf.mul(x, 20)),
  'log1p of small numbers': (x) => tf.mul(tf.log1p(tf.mul(x, 1e-4)), 1e4),
  sinh: tf.sinh,
  tan: tf.tan,
  round: (x) => tf.mul(tf.round(tf.mul(x, 4)), x),
  neg: tf.neg,
  reciprocal: tf.reciprocal,
  relu: tf.relu,
  'relu, written twice': (x) => tf.mul(tf.relu(x), tf.exp(tf.relu(x))),
  relu6: (x) => tf.relu6(tf.mul(x, 10)),
  selu: tf.selu,
  sigmoid: tf.sigmoid,
  sign: tf.sign,
  sin: tf.sin,
  softplus: tf.softplus,
  'softplus of large numbers': (x) => tf.softplus(tf.mul(x, 100)),
  square: tf.square,
  step: (x) => tf.step(x, 0.2),
  tanh: tf.tanh,
  'a number to the power 2': (x) => tf.pow(x, 2),
  clone: (x) => tf.mul(tf.clone(x), x),
  'cast and back': (x) => tf.add(x, tf.cast(tf.cast(tf.mul(x, 9), 'int32'), 'float32')),
  'cast to bool': (x) => tf.mul(x, tf.cast(tf.cast(tf.floor(x), 'bool'), 'float32')),
  onesLike: (x) => tf.mul(tf.onesLike(x), x),
  zerosLike: (x) => tf.add(tf.zerosLike(x), x),
}

const positive: Record<string, Unary> = {
  acosh: (x) => tf.acosh(tf.add(x, 1)),
  log: tf.log,
  log1p: tf.log1p,
  rsqrt: tf.rsqrt,
  sqrt: tf.sqrt,
}

const ranks = [[], [5], [3, 4], [2, 3, 4], [2, 3, 2, 4]]

const alone = (ops: Record<string, Unary>, low: number, high: number): Case[] =>
  Object.entries(ops).flatMap(([name, op], i) => [
    example(`${name}, rank 4`, [floats([2, 3, 2, 3], low, high)], op),
    example(`${name}, rank ${i % 4}`, [floats(ranks[i % 4]!, low, high)], op),
  ])

type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor

const arithmetic: Record<string, Binary> = {
  add: tf.add,
  sub: tf.sub,
  mul: tf.mul,
  div: tf.div,
  maximum: tf.maximum,
  minimum: tf.minimum,
  pow: tf.pow,
  squaredDifference: tf.squaredDifference,
  prelu: tf.prelu,
}

const comparisons: Record<string, Binary> = {
  equal: tf.equal,
  notEqual: tf.notEqual,
  greater: tf.greater,
  greaterEqual: tf.greaterEqual,
  less: tf.less,
  lessEqual: tf.lessEqual,
}

const logic: Record<string, Binary> = {
  logicalAnd: tf.logicalAnd,
  logicalOr: tf.logicalOr,
  logicalXor: tf.logicalXor,
}

const broadcasts: readonly (readonly [number[], number[]])[] = [
  [[], []],
  [[3], []],
  [[], [3]],
  [[2, 3], [3]],
  [
    [2, 3],
    [2, 1],
  ],
  [
    [1, 3],
    [2, 1],
  ],
  [[4, 2, 3], [3]],
  [
    [4, 1, 3],
    [2, 1],
  ],
  [
    [2, 3, 4, 2],
    [2, 3, 4, 2],
  ],
  [
    [2, 1, 4, 1],
    [3, 1, 2],
  ],
]

const together = (): Case[] => [
  ...['add', 'mul', 'sub', 'div'].flatMap((name) =>
    broadcasts.map(([a, b]) =>
      example(`${name} [${a}] with [${b}]`, [floats(a, 0.5, 2), floats(b, 0.5, 2)], arithmetic[name]!),
    ),
  ),
  ...['pow', 'maximum', 'minimum', 'squaredDifference'].flatMap((name) =>
    [broadcasts[8]!, broadcasts[3]!, broadcasts[9]!].map(([a, b], i) => {
      // TensorFlow.js itself broadcasts only the first of these in its gradients.
      const argument = name === 'pow' || i === 0 ? floats : fixedFloats
      return example(
        `${name} [${a}] with [${b}]`,
        [argument(a, 0.5, 2), argument(b, 0.5, 2)],
        arithmetic[name]!,
      )
    }),
  ),
  example('prelu, one slope a channel', [floats([2, 3, 2, 4]), floats([4], 0.1, 0.3)], (x, a) =>
    tf.prelu(x, a),
  ),
  example('prelu, one slope an element', [floats([2, 3]), floats([2, 3], 0.1, 0.3)], (x, a) =>
    tf.prelu(x, a),
  ),
]

const fixedFloats = (...args: Parameters<typeof floats>) => fixed(floats(...args))

const compared = (): Case[] =>
  Object.entries(comparisons).flatMap(([name, op]) => [
    example(`${name} of floats`, [fixed(values([1, 2, 3])), fixed(values([3, 2, 1]))], op),
    example(`${name} of integers`, [ints([3, 2, 2], 0, 3), ints([2], 0, 3)], op),
    example(`${name} as a mask`, [fixed(floats([2, 3])), floats([3])], (a, b) =>
      tf.mul(b, tf.cast(op(a, tf.scalar(0.2)), 'float32')),
    ),
  ])

export const elementwiseCases: readonly Case[] = [
  ...alone(signed, -1, 1),
  ...alone(positive, 0.1, 3),
  ...together(),
  ...compared(),
  ...Object.entries(logic).map(([name, op]) => example(name, [bools([4, 3]), bools([3])], op)),
  example('logicalNot', [bools([2, 3])], (x) => tf.logicalNot(x)),
  example('equal of booleans', [bools([2, 3]), bools([3])], (a, b) => tf.equal(a, b)),
  example('where, same shapes', [bools([2, 3]), floats([2, 3]), floats([2, 3])], (c, a, b) =>
    tf.where(c, a, b),
  ),
  example('where, broadcast', [bools([2, 1]), floats([2, 3]), floats([1])], (c, a, b) => tf.where(c, a, b)),
  example('where of integers', [bools([2, 3]), ints([2, 3]), ints([2, 3])], (c, a, b) => tf.where(c, a, b)),
  example('integer arithmetic', [ints([2, 3]), ints([3])], (a, b) => [
    tf.add(a, b),
    tf.sub(a, b),
    tf.mul(a, b),
    tf.maximum(a, b),
    tf.minimum(a, b),
    tf.neg(a),
    tf.square(a),
    tf.squaredDifference(a, b),
    tf.abs(tf.sub(a, b)),
    tf.pow(tf.add(a, 1), b),
  ]),
  example('mixed dtypes', [ints([2, 3]), floats([3])], (a, b) => tf.add(a, b)),
  example('a boolean times a float', [bools([2, 3]), floats([3])], (a, b) => tf.mul(a, b)),
  example('relu and step of integers', [ints([2, 3], -2, 3)], (x) => [tf.relu(x), tf.step(x), tf.sign(x)]),
  example('clipByValue of integers', [ints([2, 3], -3, 3)], (x) => tf.clipByValue(x, -1, 2)),
  example('all casts', [fixed(floats([5], -3, 3)), ints([5], -2, 3), bools([5])], (a, b, c) =>
    [a, b, c].flatMap((x) => (['float32', 'int32', 'bool'] as const).map((dtype) => tf.cast(x, dtype))),
  ),
  example('addN', [floats([2, 3]), floats([2, 3]), floats([2, 3])], (a, b, c) => tf.addN([a, b, c])),
  example('atan2 in all quadrants', [floats([4, 5]), floats([4, 1])], (y, x) => tf.atan2(y, x)),
  example('atan2 on the axes', [fixed(values([0, 0, 2, -2, 0])), fixed(values([1, -1, 0, 0, 0]))], (y, x) =>
    tf.atan2(y, x),
  ),
  example('mod and floorDiv of floats', [fixed(floats([4, 5], -9, 9)), fixed(floats([5], -4, 4))], (a, b) => [
    tf.mod(a, b),
    tf.floorDiv(a, b),
  ]),
  example('mod, trained', [floats([4, 5], -9, 9), floats([5], 1, 4)], (a, b) => tf.mod(a, b)),
  example('mod, floorDiv and div of integers', [ints([4, 5], -9, 9), ints([5], 1, 4)], (a, b) => [
    tf.mod(a, b),
    tf.mod(a, tf.neg(b)),
    tf.floorDiv(a, b),
    tf.div(a, tf.neg(b)),
  ]),
  example('division of integers by zero', [ints([3], -2, 3)], (a) => [
    tf.floorDiv(a, tf.zerosLike(a)),
    tf.mod(a, tf.zerosLike(a)),
  ]),
  example('bitwiseAnd', [ints([3, 2], 0, 16), ints([3, 2], 0, 16)], (a, b) => tf.bitwiseAnd(a, b)),
  example('isNaN, isInf and isFinite', [fixed(values([NaN, Infinity, -Infinity, 1, 0]))], (x) => [
    tf.isNaN(x),
    tf.isInf(x),
    tf.isFinite(x),
    tf.log1p(tf.abs(x)),
    tf.expm1(x),
  ]),
  example('round of halves', [fixed(values([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]))], (x) => tf.round(x)),
  example('NaN and infinities pass through', [fixed(values([NaN, Infinity, -Infinity, 1]))], (x) => [
    tf.relu(x),
    tf.add(x, 1),
    tf.mul(x, 2),
    tf.neg(x),
    tf.square(x),
    tf.tanh(x),
    tf.abs(x),
  ]),
]
