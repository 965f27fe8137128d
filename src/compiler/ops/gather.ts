/** Looking rows up by number, and its gradient: adding rows up by number. */
import type * as tf from '@tensorflow/tfjs-core'
import { sizeOf, type Value } from '../graph.js'
import type { Op } from './op.js'

const gather: Op = {
  inputs: ['x', 'indices'],
  refuse: (_, attrs) =>
    (attrs as tf.GatherV2Attrs).batchDims > 0
      ? 'was given batch dimensions: gather each batch by itself'
      : undefined,
  infer: ([x, indices], attrs) => {
    const { axis } = attrs as tf.GatherV2Attrs
    const at = axis < 0 ? axis + x!.shape.length : axis
    const shape = [...x!.shape.slice(0, at), ...indices!.shape, ...x!.shape.slice(at + 1)]
    return [{ shape, dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x, indices] = node.inputs as [Value, Value]
    const { axis } = node.attrs as tf.GatherV2Attrs
    b.define(node.outputs[0]!, b.add('Gather', [b.plain(x), b.plain(indices)], { axis }))
  },
}

/** Row i of x is added to row segmentIds[i] of the output. */
const segmentSum: Op = {
  inputs: ['x', 'segmentIds'],
  dtypes: ['float32', 'int32'],
  infer: ([x], attrs) => {
    const { numSegments } = attrs as tf.UnsortedSegmentSumAttrs
    return [{ shape: [numSegments, ...x!.shape.slice(1)], dtype: x!.dtype }]
  },
  lower: (b, node) => {
    const [x, ids] = node.inputs as [Value, Value]
    const output = node.outputs[0]!
    const zero = b.scalar(0, x.dtype === 'int32' ? 'int32' : 'float32')
    const zeros = b.add('Expand', [zero, b.ints(output.shape)])
    const rows = b.reshape(b.add('Cast', [b.plain(ids)], { to: 7 }), [sizeOf(ids.shape), 1])
    b.define(output, b.add('ScatterND', [zeros, rows, b.plain(x)], { reduction: 'add' }))
  },
}

export const gatherOps = { GatherV2: gather, UnsortedSegmentSum: segmentSum } satisfies Record<string, Op>
