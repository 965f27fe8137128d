/** Ops that treat every element alike: arithmetic, comparison, logic, activations, casts. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { DType, KernelNode, Spec, Value } from '../graph.js'
import { broadcastShape, type Op } from './op.js'

type Make = (b: Builder, names: string[], node: KernelNode) => string

const like = (value: Value, dtype: DType = value.dtype): Spec => ({ shape: value.shape, dtype })

function elementwise(inputs: readonly string[], infer: Op['infer'], make: Make): Op {
  return {
    inputs,
    infer,
    lower: (b, node) => b.elementwise(node, (names) => make(b, names, node)),
  }
}

/** A unary op that ONNX has under `onnx`. */
const unary = (onnx: string): Op => unaryBy((b, [x]) => b.add(onnx, [x!]))

const unaryBy = (make: Make, dtype?: DType): Op => elementwise(['x'], ([x]) => [like(x!, dtype)], make)

const binaryBy = (make: Make, dtype?: DType, inputs: readonly string[] = ['a', 'b']): Op =>
  elementwise(
    inputs,
    ([a, b]) => [{ shape: broadcastShape(a!.shape, b!.shape), dtype: dtype ?? a!.dtype }],
    make,
  )

const binary = (onnx: string, dtype?: DType): Op => binaryBy((b, names) => b.add(onnx, names), dtype)

const onnxCast = { float32: 1, int32: 6, bool: 9 } as const
const cast = (b: Builder, name: string, to: DType) => b.add('Cast', [name], { to: onnxCast[to] })

/** x > 0 ? 1 : alpha, in x's own dtype. */
const step: Op = unaryBy((b, [x], node) => {
  const { alpha } = node.attrs as tf.StepAttrs
  const positive = b.add('Greater', [x!, b.scalar(0)])
  return alpha === 0 ? cast(b, positive, 'float32') : b.add('Where', [positive, b.scalar(1), b.scalar(alpha)])
})

const castOp: Op = {
  inputs: ['x'],
  alias: ([x], attrs) => (x!.dtype === (attrs as tf.CastAttrs).dtype ? x : undefined),
  infer: ([x], attrs) => [like(x!, (attrs as tf.CastAttrs).dtype as DType)],
  lower: (b, node) => b.elementwise(node, ([x]) => cast(b, x!, node.outputs[0]!.dtype)),
}

const select: Op = elementwise(
  ['condition', 't', 'e'],
  ([, t]) => [like(t!)],
  (b, names) => b.add('Where', names),
)

const clip: Op = unaryBy((b, [x], node) => {
  const { clipValueMin, clipValueMax } = node.attrs as tf.ClipByValueAttrs
  return b.add('Clip', [x!, b.scalar(clipValueMin), b.scalar(clipValueMax)])
})

/** dy · (y > 0 ? 1 : y + 1), from the output y of an ELU with alpha 1. */
const eluGrad: Op = elementwise(
  ['dy', 'y'],
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
  Abs: unary('Abs'),
  Add: binary('Add'),
  Cast: castOp,
  Ceil: unary('Ceil'),
  ClipByValue: clip,
  Cos: unary('Cos'),
  Elu: unary('Elu'),
  EluGrad: eluGrad,
  Equal: binary('Equal', 'bool'),
  Erf: unary('Erf'),
  Exp: unary('Exp'),
  Floor: unary('Floor'),
  Greater: binary('Greater', 'bool'),
  GreaterEqual: binary('GreaterOrEqual', 'bool'),
  LeakyRelu: unaryBy((b, [x], node) => leaky(b, x!, (node.attrs as tf.LeakyReluAttrs).alpha)),
  Less: binary('Less', 'bool'),
  LessEqual: binary('LessOrEqual', 'bool'),
  Log: unary('Log'),
  Log1p: unaryBy((b, [x]) => b.add('Log', [b.add('Add', [x!, b.scalar(1)])])),
  LogicalAnd: binary('And', 'bool'),
  LogicalNot: unaryBy((b, names) => b.add('Not', names), 'bool'),
  LogicalOr: binary('Or', 'bool'),
  Maximum: binary('Max'),
  Minimum: binary('Min'),
  Multiply: binary('Mul'),
  Neg: unary('Neg'),
  NotEqual: binaryBy((b, names) => b.add('Not', [b.add('Equal', names)]), 'bool'),
  Pow: binary('Pow'),
  Prelu: binaryBy((b, names) => b.add('PRelu', names), undefined, ['x', 'alpha']),
  RealDiv: binary('Div', 'float32'),
  Reciprocal: unary('Reciprocal'),
  Relu: unary('Relu'),
  Relu6: unaryBy((b, [x]) => relu6(b, x!)),
  Rsqrt: unaryBy((b, [x]) => b.add('Reciprocal', [b.add('Sqrt', [x!])])),
  Select: select,
  Selu: unary('Selu'),
  Sigmoid: unary('Sigmoid'),
  Sign: unary('Sign'),
  Sin: unary('Sin'),
  Softplus: unary('Softplus'),
  Sqrt: unary('Sqrt'),
  Square: unaryBy((b, [x]) => squared(b, x!)),
  SquaredDifference: binaryBy((b, names) => squared(b, b.add('Sub', names))),
  Step: step,
  Sub: binary('Sub'),
  Tanh: unary('Tanh'),
} satisfies Record<string, Op>

export interface Activation {
  readonly activation?: string
  readonly leakyreluAlpha?: number
}

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
