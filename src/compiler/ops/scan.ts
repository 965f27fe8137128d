/** Running sums and products along an axis. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { NUMERIC, type Op } from './op.js'

const cumsum: Op = {
  inputs: ['x'],
  dtypes: NUMERIC,
  infer: ([x]) => [x!],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { axis, exclusive, reverse } = node.attrs as tf.CumsumAttrs
    const attributes = { exclusive: Number(exclusive), reverse: Number(reverse) }
    b.define(
      node.outputs[0]!,
      b.add('CumSum', [b.plain(x), b.constant('int64', [], BigInt64Array.of(BigInt(axis)))], attributes),
    )
  },
}

/** ONNX has no running product: multiplied with itself shifted by 1, 2, 4, … (Hillis & Steele 1986). */
const cumprod: Op = {
  inputs: ['x'],
  dtypes: NUMERIC,
  infer: ([x]) => [x!],
  lower: (b, node) => {
    const [x] = node.inputs as [Value]
    const { axis: given, exclusive, reverse } = node.attrs as tf.CumprodAttrs
    const axis = given < 0 ? given + x.shape.length : given
    let product = exclusive ? shifted(b, b.plain(x), x, axis, 1, reverse) : b.plain(x)
    for (let by = 1; by < x.shape[axis]!; by *= 2) {
      product = b.add('Mul', [product, shifted(b, product, x, axis, by, reverse)])
    }
    b.define(node.outputs[0]!, product)
  },
}

/** `name`, of the shape of x, moved `by` places along `axis` (towards the end unless reversed); ones come in. */
function shifted(b: Builder, name: string, x: Value, axis: number, by: number, reverse: boolean): string {
  const size = x.shape[axis]!
  const [start, end] = reverse ? [by, size] : [0, size - by]
  const kept = b.add('Slice', [name, b.ints([start]), b.ints([end]), b.ints([axis])])
  const before = x.shape.map((_, i) => (i === axis && !reverse ? by : 0))
  const after = x.shape.map((_, i) => (i === axis && reverse ? by : 0))
  return b.add('Pad', [kept, b.ints([...before, ...after]), b.scalar(1, x.dtype)])
}

export const scanOps = { Cumprod: cumprod, Cumsum: cumsum } satisfies Record<string, Op>
