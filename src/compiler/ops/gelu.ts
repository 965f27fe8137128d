/**
 * GELU in its tanh form (Hendrycks & Gimpel 2016) and its gradient, as kernels of our own. 0.5 x (1 + tanh(u)) is
 * x s with s = sigmoid(2u): from x and s the gradient is seven passes instead of thirteen.
 */
import type { Builder } from '../builder.js'
import { FLOAT, type Op } from './op.js'

/** 2u = x (SLOPE + CUBIC x²). */
const SLOPE = 2 * Math.sqrt(2 / Math.PI)
const CUBIC = 0.044715 * SLOPE

/** s, and the polynomial p = 2u / x; shared by both passes. */
function parts(b: Builder, x: string): { s: string; p: string } {
  const p = b.once(`gelu polynomial ${x}`, () => {
    const cubic = b.add('Mul', [b.add('Mul', [x, x]), b.scalar(CUBIC)])
    return b.add('Add', [cubic, b.scalar(SLOPE)])
  })
  return { s: b.once(`gelu sigmoid ${x}`, () => b.add('Sigmoid', [b.add('Mul', [x, p])])), p }
}

const product = (b: Builder, x: string) => b.once(`gelu ${x}`, () => b.add('Mul', [x, parts(b, x).s]))

const forward: Op = {
  inputs: ['x'],
  dtypes: FLOAT,
  infer: ([x]) => [x!],
  lower: (b, node) =>
    b.elementwise(node, ([x]) =>
      b.portable ? b.add('Gelu', [x!], { approximate: 'tanh' }) : product(b, x!),
    ),
}

/** dy (s + x s (1 - s) (2u)'), with (2u)' = SLOPE + 3 CUBIC x² = 3p - 2 SLOPE. */
const gradient: Op = {
  inputs: ['dy', 'x'],
  dtypes: FLOAT,
  infer: ([, x]) => [x!],
  lower: (b, node) =>
    b.elementwise(node, ([dy, x]) => {
      const { s, p } = parts(b, x!)
      const inner = b.add('Sub', [b.add('Mul', [p, b.scalar(3)]), b.scalar(2 * SLOPE)])
      const rest = b.add('Mul', [product(b, x!), b.add('Sub', [b.scalar(1), s])])
      return b.add('Mul', [dy!, b.add('Add', [s, b.add('Mul', [rest, inner])])])
    }),
}

export const ownGeluOps = { LockstepGelu: forward, LockstepGeluGrad: gradient } satisfies Record<string, Op>
