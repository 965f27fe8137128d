/**
 * Log-softmax as TensorFlow.js spells it, in passes over all scores, becomes one kernel: tf.logSumExp subtracted, as its
 * cross-entropy has it, and tf.logSoftmax. It looks only at kernels that it is shown in order.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { type KernelNode, sameShape, type Value } from './graph.js'

type MakerOf = (value: Value | undefined) => KernelNode | undefined

/** @returns a rule for each node in turn: the kernel to use instead of a subtraction that was the last of a log-softmax */
export function logSoftmaxRule(): (node: KernelNode) => KernelNode | undefined {
  const makers = new Map<Value, KernelNode>()
  const makerOf: MakerOf = (value) => {
    const maker = value && makers.get(value)
    return maker?.kernel === 'Reshape' ? makerOf(maker.inputs[0]) : maker
  }
  return (node) => {
    for (const output of node.outputs) makers.set(output, node)
    if (node.kernel !== 'Sub') return undefined
    const scores = normalised(node, makerOf)
    const { shape } = node.outputs[0]!
    if (scores === undefined || !sameShape(scores.shape, shape)) return undefined
    return { ...node, kernel: 'LogSoftmax', inputs: [scores], attrs: { axis: shape.length - 1 } }
  }
}

/** The scores whose log-softmax a subtraction ends. */
function normalised({ inputs: [from, what] }: KernelNode, makerOf: MakerOf): Value | undefined {
  // One number a row, or it would not be the rows' own.
  if (!sameShape(what!.shape, [...from!.shape.slice(0, -1), 1])) return undefined
  const subtracted = makerOf(what)
  if (subtracted?.kernel === 'Log') {
    const shifted = summed(subtracted, makerOf)
    return shifted === from ? scoresOf(shifted, makerOf) : undefined
  }
  if (subtracted?.kernel !== 'Add') return undefined
  const parts = subtracted.inputs.map(makerOf)
  const log = parts.find((part) => part?.kernel === 'Log')
  const max = parts.find((part) => part?.kernel === 'Max')
  const shifted = log && summed(log, makerOf)
  const isWhole = max !== undefined && makerOf(makerOf(shifted)?.inputs[1]) === max
  return isWhole && scoresOf(shifted, makerOf) === from ? from : undefined
}

/** What a logarithm is taken of the sum over rows of the exponentials of. */
function summed(log: KernelNode, makerOf: MakerOf): Value | undefined {
  const sum = makerOf(log.inputs[0])
  const exp = sum?.kernel === 'Sum' && isOverRows(sum) ? makerOf(sum.inputs[0]) : undefined
  return exp?.kernel === 'Exp' ? exp.inputs[0] : undefined
}

/** What rows' own maxima were subtracted from. */
function scoresOf(shifted: Value | undefined, makerOf: MakerOf): Value | undefined {
  const difference = makerOf(shifted)
  const max = difference?.kernel === 'Sub' ? makerOf(difference.inputs[1]) : undefined
  const isMax = max?.kernel === 'Max' && isOverRows(max) && max.inputs[0] === difference!.inputs[0]
  return isMax ? max.inputs[0] : undefined
}

function isOverRows({ inputs: [x], attrs }: KernelNode): boolean {
  const { axis, reductionIndices } = attrs as Partial<tf.SumAttrs & tf.MaxAttrs>
  const axes = [axis ?? reductionIndices].flat()
  return axes.length === 1 && (axes[0] === -1 || axes[0] === x!.shape.length - 1)
}
