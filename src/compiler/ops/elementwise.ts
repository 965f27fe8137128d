/** Ops that treat every element alike: arithmetic, comparison, logic, activations, casts. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { DType, KernelNode, Spec, Value } from '../graph.js'
import { onnxType } from '../onnx.js'
import { broadcastShape, FLOAT, NUMERIC, type Op } from './op.js'

type Make = (b: Builder, names: string[], node: KernelNode) => string

const BOOL: readonly DType[] = ['bool']

const like = (value: Value, dtype: DType = value.dtype): Spec => ({ shape: value.shape, dtype })

function elementwise(
  inputs: readonly string[],
  dtypes: readonly DType[] | undefined,
  infer: Op['infer'],
  make: Make,
): Op {
  return {
    inputs,
    ...(dtypes && { dtypes }),
    infer,
    lower: (b, node) => b.elementwise(node, (names) => make(b, names, node)),
  }
}

/** A unary op that ONNX has under `onnx`. */
const unary = (onnx: string, dtypes = FLOAT): Op => unaryBy((b, [x]) => b.add(onnx, [x!]), dtypes)

const unaryBy = (make: Make, dtypes = FLOAT): Op => elementwise(['x'], dtypes, ([x]) => [like(x!)], make)

const binaryBy = (make: Make, dtypes = NUMERIC, inputs: readonly string[] = ['a', 'b']): Op =>
  elementwise(
    inputs,
    dtypes,
    ([a, b]) => [{ shape: broadcastShape(a!.shape, b!.shape), dtype: a!.dtype }],
    make,
  )

const binary = (onnx: string): Op => binaryBy((b, names) => b.add(onnx, names))

/** A binary op whose result is true or false. */
const relation = (onnx: string, dtypes?: readonly DType[]): Op =>
  relationBy((b, names) => b.add(onnx, names), dtypes)

const relationBy = (make: Make, dtypes?: readonly DType[]): Op =>
  elementwise(
    ['a', 'b'],
    dtypes,
    ([a, b]) => [{ shape: broadcastShape(a!.shape, b!.shape), dtype: 'bool' }],
    make,
  )

const cast = (b: Builder, name: string, to: DType) => b.add('Cast', [name], { to: onnxType[to] })

/** A constant of the dtype of the node's first input, which ONNX does not widen by itself. */
const number = (b: Builder, node: KernelNode, value: number) =>
  b.scalar(value, node.inputs[0]!.dtype === 'int32' ? 'int32' : 'float32')

const LARGEST_FLOAT = (2 - 2 ** -23) * 2 ** 127

/** x > 0 ? 1 : 0 in one pass: x times the largest float, clipped to [0, 1]. */
export const positive = (b: Builder, x: string) =>
  b.add('HardSigmoid', [x], { alpha: { float: LARGEST_FLOAT }, beta: { float: 0 } })

/** x > 0 ? 1 : alpha, in x's own dtype. */
const step: Op = unaryBy((b, [x], node) => {
  const { alpha } = node.attrs as tf.StepAttrs
  const { dtype } = node.outputs[0]!
  if (alpha === 0 && dtype === 'float32') return positive(b, x!)
  const isPositive = b.add('Greater', [x!, number(b, node, 0)])
  if (alpha === 0) return cast(b, isPositive, dtype)
  return b.add('Where', [isPositive, number(b, node, 1), number(b, node, alpha)])
}, NUMERIC)

const castOp: Op = {
  inputs: ['x'],
  alias: ([x], attrs) => (x!.dtype === (attrs as tf.CastAttrs).dtype ? x : undefined),
  infer: ([x], attrs) => [like(x!, (attrs as tf.CastAttrs).dtype as DType)],
  lower: (b, node) => b.elementwise(node, ([x]) => cast(b, x!, node.outputs[0]!.dtype)),
}

const select: Op = elementwise(
  ['condition', 't', 'e'],
  undefined,
  ([, t]) => [like(t!)],
  (b, names) => b.add('Where', names),
)

const clip: Op = unaryBy((b, [x], node) => {
  const { clipValueMin, clipValueMax } = node.attrs as tf.ClipByValueAttrs
  return b.add('Clip', [x!, number(b, node, clipValueMin), number(b, node, clipValueMax)])
}, NUMERIC)

/** dy · (y > 0 ? 1 : y + 1), from the output y of an ELU with alpha 1. */
const eluGrad: Op = elementwise(
  ['dy', 'y'],
  FLOAT,
  ([dy]) => [like(dy!)],
  (b, [dy, y]) => {
    const slope = b.add('Where', [
      b.add('Greater', [y!, b.scalar(0)]),
      b.scalar(1),
      b.add('Add', [y!, b.scalar(1)]),
    ])
    return b.add('Mul', [dy!, slope])
  },
)

const relu6 = (b: Builder, x: string) => b.add('Clip', [x, b.scalar(0), b.scalar(6)])

const leaky = (b: Builder, x: string, alpha: number) => b.add('LeakyRelu', [x], { alpha: { float: alpha } })

/** x · x: exact, where Pow would go through exp and log. */
const squared = (b: Builder, x: string) => b.add('Mul', [x, x])

/** Sum of any number of tensors of one shape. */
const addN: Op = {
  inputs: 'list',
  dtypes: NUMERIC,
  infer: ([first]) => [like(first!)],
  lower: (b, node) => b.elementwise(node, (names) => names.reduce((sum, name) => b.add('Add', [sum, name]))),
}

/** True or false for each number. */
const predicate = (make: (b: Builder, x: string) => string): Op =>
  elementwise(
    ['x'],
    FLOAT,
    ([x]) => [like(x!, 'bool')],
    (b, [x]) => make(b, x!),
  )

/** log(1 + x) to full precision near 0 (Kahan): what rounding takes from 1 + x is divided out again. */
function log1p(b: Builder, x: string): string {
  const one = b.scalar(1)
  const u = b.add('Add', [x, one])
  const log = b.add('Log', [u])
  const rest = b.add('Sub', [u, one])
  const isOne = b.add('Equal', [rest, b.scalar(0)])
  const divisor = b.add('Where', [isOne, one, rest])
  const corrected = b.add('Where', [isOne, x, b.add('Mul', [log, b.add('Div', [x, divisor])])])
  return b.add('Where', [b.add('Greater', [x, one]), log, corrected])
}

/** exp(x) - 1 to full precision near 0, where it is 2t / (1 - t) with t = tanh(x/2). */
function expm1(b: Builder, x: string): string {
  const one = b.scalar(1)
  const t = b.add('Tanh', [b.add('Mul', [x, b.scalar(0.5)])])
  const near = b.add('Div', [b.add('Add', [t, t]), b.add('Sub', [one, t])])
  const isNear = b.add('Less', [b.add('Abs', [x]), one])
  return b.add('Where', [isNear, near, b.add('Sub', [b.add('Exp', [x]), one])])
}

/** The angle of the point (x, y), in (-π, π]. */
function atan2(b: Builder, y: string, x: string): string {
  const zero = b.scalar(0)
  const isLeft = b.add('Less', [x, zero])
  const isBelow = b.add('Less', [y, zero])
  const turn = b.add('Where', [isBelow, b.scalar(-Math.PI), b.scalar(Math.PI)])
  const isOrigin = b.add('And', [b.add('Equal', [x, zero]), b.add('Equal', [y, zero])])
  const slope = b.add('Div', [y, b.add('Where', [isOrigin, b.scalar(1), x])])
  return b.add('Add', [b.add('Atan', [slope]), b.add('Where', [isLeft, turn, zero])])
}

const DOUBLE = 11

/** ⌊a / b⌋ as int32. In doubles, which hold every int32 and, unlike integers, survive a division by 0: it gives 0. */
const floorDiv: Op = elementwise(
  ['a', 'b'],
  NUMERIC,
  ([a, b]) => [{ shape: broadcastShape(a!.shape, b!.shape), dtype: 'int32' }],
  (b, names, node) => {
    const [dividend, divisor] = names.map((name) => b.add('Cast', [name], { to: DOUBLE })) as [string, string]
    const floor = b.add('Floor', [b.add('Div', [dividend, divisor])])
    const isZero = b.add('Equal', [names[1]!, number(b, node, 0)])
    return b.add('Where', [isZero, b.scalar(0, 'int32'), cast(b, floor, 'int32')])
  },
)

/** The remainder of a / b that has the sign of b; integers modulo 0 give 0. */
const modulo: Op = binaryBy((b, [dividend, divisor], node) => {
  const zero = number(b, node, 0)
  if (node.outputs[0]!.dtype === 'int32') {
    const isZero = b.add('Equal', [divisor!, zero])
    return b.add('Mod', [dividend!, b.add('Where', [isZero, number(b, node, 1), divisor!])])
  }
  const rest = b.add('Mod', [dividend!, divisor!], { fmod: 1 })
  const differ = b.add('Xor', [b.add('Less', [dividend!, zero]), b.add('Less', [divisor!, zero])])
  const turned = b.add('Mod', [b.add('Add', [rest, divisor!]), divisor!], { fmod: 1 })
  return b.add('Where', [differ, turned, rest])
})

export const elementwiseOps = {
  Abs: unary('Abs', NUMERIC),
  Acos: unary('Acos'),
  Acosh: unary('Acosh'),
  Add: binary('Add'),
  AddN: addN,
  Asin: unary('Asin'),
  Asinh: unary('Asinh'),
  Atan: unary('Atan'),
  Atan2: binaryBy((b, [y, x]) => atan2(b, y!, x!), FLOAT),
  Atanh: unary('Atanh'),
  BitwiseAnd: binaryBy((b, names) => b.add('BitwiseAnd', names), ['int32']),
  Cast: castOp,
  Ceil: unary('Ceil'),
  ClipByValue: clip,
  Cos: unary('Cos'),
  Cosh: unary('Cosh'),
  Elu: unary('Elu'),
  EluGrad: eluGrad,
  Equal: relation('Equal'),
  Erf: unary('Erf'),
  Exp: unary('Exp'),
  Expm1: unaryBy((b, [x]) => expm1(b, x!)),
  Floor: unary('Floor'),
  FloorDiv: floorDiv,
  Greater: relation('Greater', NUMERIC),
  GreaterEqual: relation('GreaterOrEqual', NUMERIC),
  IsFinite: predicate((b, x) => b.add('Equal', [b.add('Sub', [x, x]), b.scalar(0)])),
  IsInf: predicate((b, x) => b.add('IsInf', [x])),
  IsNan: predicate((b, x) => b.add('IsNaN', [x])),
  LeakyRelu: unaryBy((b, [x], node) => leaky(b, x!, (node.attrs as tf.LeakyReluAttrs).alpha)),
  Less: relation('Less', NUMERIC),
  LessEqual: relation('LessOrEqual', NUMERIC),
  Log: unary('Log'),
  Log1p: unaryBy((b, [x]) => log1p(b, x!)),
  LogicalAnd: relation('And', BOOL),
  LogicalNot: unary('Not', BOOL),
  LogicalOr: relation('Or', BOOL),
  Maximum: binary('Max'),
  Minimum: binary('Min'),
  Mod: modulo,
  Multiply: binary('Mul'),
  Neg: unary('Neg', NUMERIC),
  NotEqual: relationBy((b, names) => b.add('Not', [b.add('Equal', names)])),
  Pow: binary('Pow'),
  Prelu: binaryBy((b, names) => b.add('PRelu', names), FLOAT, ['x', 'alpha']),
  RealDiv: binaryBy((b, names) => b.add('Div', names), FLOAT),
  Reciprocal: unary('Reciprocal'),
  Relu: unary('Relu', NUMERIC),
  Relu6: unaryBy((b, [x]) => relu6(b, x!)),
  Round: unary('Round'),
  Rsqrt: unaryBy((b, [x]) => b.add('Reciprocal', [b.add('Sqrt', [x!])])),
  Select: select,
  Selu: unary('Selu'),
  Sigmoid: unary('Sigmoid'),
  Sign: unary('Sign', NUMERIC),
  Sin: unary('Sin'),
  Sinh: unary('Sinh'),
  Softplus: unary('Softplus'),
  Sqrt: unary('Sqrt'),
  Square: unaryBy((b, [x]) => squared(b, x!), NUMERIC),
  SquaredDifference: binaryBy((b, names) => squared(b, b.add('Sub', names))),
  Step: step,
  Sub: binary('Sub'),
  Tan: unary('Tan'),
  Tanh: unary('Tanh'),
} satisfies Record<string, Op>

export interface Activation {
  readonly activation?: string
  readonly leakyreluAlpha?: number
}

/** TensorFlow.js fuses one more activation, prelu, whose slopes are another input. */
export const refuseActivation = ({ activation }: Activation): string | undefined =>
  activation === 'prelu' ? 'was given the fused activation prelu: apply tf.prelu to its result' : undefined

/** The activation of a fused TensorFlow.js kernel, applied to a lowered name. */
export function activate(
  b: Builder,
  name: string,
  { activation = 'linear', leakyreluAlpha = 0.2 }: Activation,
): string {
  switch (activation) {
    case 'linear':
      return name
    case 'relu':
      return b.add('Relu', [name])
    case 'relu6':
      return relu6(b, name)
    case 'elu':
      return b.add('Elu', [name])
    case 'sigmoid':
      return b.add('Sigmoid', [name])
    case 'leakyrelu':
      return leaky(b, name, leakyreluAlpha)
    default:
      throw new Error(`fused activation ${activation} has no lowering`)
  }
}
