/**
 * Local response normalization (Krizhevsky et al. 2012) and its gradient: y = x s^-beta, with
 * s = bias + alpha · Σ x² over the channels at most depthRadius away. The sum is a product with a banded matrix.
 */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'

/** Over the last dimension of x: each channel's sum with its neighbours. */
function overNeighbours(b: Builder, name: string, channels: number, { depthRadius }: tf.LRNAttrs): string {
  const band = Float32Array.from({ length: channels ** 2 }, (_, i) =>
    Math.abs(Math.floor(i / channels) - (i % channels)) <= depthRadius ? 1 : 0,
  )
  return b.add('MatMul', [name, b.constant('float32', [channels, channels], band)])
}

/** s, needed forward and backward. */
function scaleOf(b: Builder, x: Value, attrs: tf.LRNAttrs): string {
  const name = b.plain(x)
  return b.once(`response ${name} ${JSON.stringify(attrs)}`, () => {
    const sums = overNeighbours(b, b.add('Mul', [name, name]), x.shape.at(-1)!, attrs)
    return b.add('Add', [b.add('Mul', [sums, b.scalar(attrs.alpha)]), b.scalar(attrs.bias)])
  })
}

const power = (b: Builder, scale: string, { beta }: tf.LRNAttrs) =>
  b.once(`response power ${scale} ${beta}`, () => b.add('Pow', [scale, b.scalar(-beta)]))

const forward: Op = {
  inputs: ['x'],
  dtypes: FLOAT,
  infer: ([x]) => [x!],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const attrs = node.attrs as tf.LRNAttrs
    b.define(node.outputs[0]!, b.add('Mul', [b.plain(x), power(b, scaleOf(b, x, attrs), attrs)]))
  },
}

/** dx = dy s^-beta - 2 alpha beta x Σ (dy y / s), the sum over the same neighbours. */
const gradient: Op = {
  inputs: ['x', 'y', 'dy'],
  dtypes: FLOAT,
  infer: ([x]) => [x!],
  lower: (b, node) => {
    const [x, y, dy] = node.inputs as [Value, Value, Value]
    const attrs = node.attrs as tf.LRNAttrs
    const scale = scaleOf(b, x, attrs)
    const shares = b.add('Div', [b.add('Mul', [b.plain(dy), b.plain(y)]), scale])
    const sums = overNeighbours(b, shares, x.shape.at(-1)!, attrs)
    const direct = b.add('Mul', [b.plain(dy), power(b, scale, attrs)])
    const factor = b.scalar(2 * attrs.alpha * attrs.beta)
    const indirect = b.add('Mul', [b.add('Mul', [b.plain(x), sums]), factor])
    b.define(node.outputs[0]!, b.add('Sub', [direct, indirect]))
  },
}

export const responseNormOps = { LRN: forward, LRNGrad: gradient } satisfies Record<string, Op>
