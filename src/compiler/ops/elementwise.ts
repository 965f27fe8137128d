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

/** x > 0 ? 1 : alpha, in x's own dtype. */
const step: Op = unaryBy((b, [x], node) => {
  const { alpha } = node.attrs as tf.StepAttrs
  const positive = b.add('Greater', [x!, number(b, node, 0)])
  if (alpha === 0) return cast(b, positive, node.outputs[0]!.dtype)
  return b.add('Where', [positive, number(b, node, 1), number(b, node, alpha)])
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

export const elementwiseOps = {
  Abs: unary('Abs', NUMERIC),
  Add: binary('Add'),
  Cast: castOp,
  Ceil: unary('Ceil'),
  ClipByValue: clip,
  Cos: unary('Cos'),
  Elu: unary('Elu'),
  EluGrad: eluGrad,
  Equal: relation('Equal'),
  Erf: unary('Erf'),
  Exp: unary('Exp'),
  Floor: unary('Floor'),
  Greater: relation('Greater', NUMERIC),
  GreaterEqual: relation('GreaterOrEqual', NUMERIC),
  LeakyRelu: unaryBy((b, [x], node) => leaky(b, x!, (node.attrs as tf.LeakyReluAttrs).alpha)),
  Less: relation('Less', NUMERIC),
  LessEqual: relation('LessOrEqual', NUMERIC),
  Log: unary('Log'),
  Log1p: unaryBy((b, [x]) => b.add('Log', [b.add('Add', [x!, b.scalar(1)])])),
  LogicalAnd: relation('And', BOOL),
  LogicalNot: unary('Not', BOOL),
  LogicalOr: relation('Or', BOOL),
  Maximum: binary('Max'),
  Minimum: binary('Min'),
  Multiply: binary('Mul'),
  Neg: unary('Neg', NUMERIC),
  NotEqual: relationBy((b, names) => b.add('Not', [b.add('Equal', names)])),
  Pow: binary('Pow'),
  Prelu: binaryBy((b, names) => b.add('PRelu', names), FLOAT, ['x', 'alpha']),
  RealDiv: binaryBy((b, names) => b.add('Div', names), FLOAT),
  Reciprocal: unary('Reciprocal'),
  Relu: unary('Relu', NUMERIC),
  Relu6: unaryBy((b, [x]) => relu6(b, x!)),
  Rsqrt: unaryBy((b, [x]) => b.add('Reciprocal', [b.add('Sqrt', [x!])])),
  Select: select,
  Selu: unary('Selu'),
  Sigmoid: unary('Sigmoid'),
  Sign: unary('Sign', NUMERIC),
  Sin: unary('Sin'),
  Softplus: unary('Softplus'),
  Sqrt: unary('Sqrt'),
  Square: unaryBy((b, [x]) => squared(b, x!), NUMERIC),
  SquaredDifference: binaryBy((b, names) => squared(b, b.add('Sub', names))),
  Step: step,
  Sub: binary('Sub'),
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
