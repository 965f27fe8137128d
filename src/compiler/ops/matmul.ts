/** Matrix products: plain, batched, and fused with bias and activation. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, type Spec, sizeOf, type Value } from '../graph.js'
import { type Activation, activate, refuseActivation } from './elementwise.js'
import { broadcastShape, FLOAT, type Op } from './op.js'
import { productOverRows } from './product-over-rows.js'

type MatMulAttrs = tf.BatchMatMulAttrs

function infer([a, b]: readonly Value[], attrs: unknown): Spec[] {
  const { transposeA, transposeB } = attrs as MatMulAttrs
  const batch = broadcastShape(a!.shape.slice(0, -2), b!.shape.slice(0, -2))
  const rows = a!.shape.at(transposeA ? -1 : -2)!
  const columns = b!.shape.at(transposeB ? -2 : -1)!
  return [{ shape: [...batch, rows, columns], dtype: 'float32' }]
}

/** a · b (+ bias), transposed as asked. One matrix goes to Gemm, a batch to onnxruntime's FusedMatMul, or MatMul. */
function product(b: Builder, node: KernelNode, bias?: Value): string {
  const [left, right] = node.inputs as [Value, Value]
  const { transposeA, transposeB } = node.attrs as MatMulAttrs
  const { shape } = node.outputs[0]!
  const transposes = { transA: Number(transposeA), transB: Number(transposeB) }
  if (sizeOf(left.shape.slice(0, -2)) === 1 && sizeOf(right.shape.slice(0, -2)) === 1) {
    const matrix = (v: Value) => (v.shape.length <= 2 ? b.plain(v) : b.reshape(b.plain(v), v.shape.slice(-2)))
    if (transposeA && !transposeB && bias === undefined) {
      const [rows, m, n] = [left.shape.at(-2)!, left.shape.at(-1)!, right.shape.at(-1)!]
      return b.reshape(productOverRows(b, matrix(left), matrix(right), [rows, m, n]), shape)
    }
    const inputs = [left, right, ...(bias === undefined ? [] : [bias])].map(matrix)
    return b.reshape(b.shaped(b.add('Gemm', inputs, transposes), shape.slice(-2)), shape)
  }
  const result = b.portable
    ? b.add('MatMul', [swapped(b, left, transposeA), swapped(b, right, transposeB)])
    : b.add('FusedMatMul', [b.plain(left), b.plain(right)], transposes, 'com.microsoft')
  return bias === undefined ? result : b.add('Add', [result, b.plain(bias)])
}

/** The value, its last two dimensions exchanged where `exchange` says so. */
function swapped(b: Builder, value: Value, exchange: boolean): string {
  const places = value.shape.map((_, i) => i)
  return exchange
    ? b.transpose(b.plain(value), [...places.slice(0, -2), ...places.slice(-2).reverse()])
    : b.plain(value)
}

export const matmulOps = {
  BatchMatMul: {
    inputs: ['a', 'b'],
    dtypes: FLOAT,
    infer,
    lower: (b, node) => b.define(node.outputs[0]!, product(b, node)),
  },
  _FusedMatMul: {
    inputs: ['a', 'b', 'bias'],
    dtypes: FLOAT,
    refuse: (_, attrs) => refuseActivation(attrs as Activation),
    infer,
    lower: (b, node) =>
      b.define(node.outputs[0]!, activate(b, product(b, node, node.inputs[2]), node.attrs as Activation)),
  },
} satisfies Record<string, Op>
