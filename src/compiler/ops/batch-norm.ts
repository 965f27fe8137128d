/**
 * Batch normalization: TensorFlow.js' inference kernel, and two kernels of our own for training. TensorFlow.js writes
 * the training pass in dozens of small ops that tile the statistics to full size; here it is one node each way.
 * Method: Ioffe & Szegedy 2015, with the biased variance, as TensorFlow.js has it.
 */
import type * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'

export interface BatchNormAttrs {
  /** The dimension that keeps statistics of its own: the last. */
  readonly epsilon: number
}

/** The image or matrix as [batch, channels, pixels], or [batch, channels]: whichever layout it is in costs nothing. */
function byChannel(b: Builder, x: Value): { name: string; axes: number[]; channelShape: number[] } {
  const channels = x.shape.at(-1)!
  if (x.shape.length === 4) {
    const [n, h, w] = x.shape as [number, number, number]
    return { name: b.reshape(b.nchw(x), [n, channels, h * w]), axes: [0, 2], channelShape: [1, channels, 1] }
  }
  const rows = sizeOf(x.shape) / channels
  return { name: b.reshape(b.plain(x), [rows, channels]), axes: [0], channelShape: [1, channels] }
}

/** x as it was before `byChannel`. */
function define(b: Builder, output: Value, name: string): void {
  if (output.shape.length !== 4) {
    b.define(output, b.reshape(name, output.shape))
    return
  }
  const [n, h, w, c] = output.shape as [number, number, number, number]
  b.define(output, b.reshape(name, [n, c, h, w]), 'nchw')
}

const perChannel = (x: Value) => ({ shape: [x.shape.at(-1)!], dtype: 'float32' as const })

/** x minus its mean per channel: needed forward and backward, computed once. */
function centred(b: Builder, x: Value, mean: string): string {
  const { name, channelShape } = byChannel(b, x)
  return b.once(`centred ${name} ${mean}`, () => b.add('Sub', [name, b.reshape(mean, channelShape)]))
}

/** (x, gamma, beta) → y, mean, variance, 1/sqrt(variance + epsilon). */
const training: Op = {
  inputs: ['x', 'gamma', 'beta'],
  list: true,
  dtypes: FLOAT,
  infer: ([x]) => [x!, perChannel(x!), perChannel(x!), perChannel(x!)],
  lower: (b, node) => {
    const [x, gamma, beta] = node.inputs as [Value, Value, Value]
    const [y, mean, variance, scale] = node.outputs as [Value, Value, Value, Value]
    const { name, axes, channelShape } = byChannel(b, x)
    const count = sizeOf(x.shape) / x.shape.at(-1)!
    b.define(mean, b.add('ReduceMean', [name, b.ints(axes)], { keepdims: 0 }))
    const difference = centred(b, x, b.plain(mean))
    const squares = b.add('ReduceSumSquare', [difference, b.ints(axes)], { keepdims: 0 })
    b.define(variance, b.add('Div', [squares, b.scalar(count)]))
    const { epsilon } = node.attrs as BatchNormAttrs
    const deviation = b.add('Sqrt', [b.add('Add', [b.plain(variance), b.scalar(epsilon)])])
    b.define(scale, b.add('Reciprocal', [deviation]))
    const factor = b.reshape(b.add('Mul', [b.plain(gamma), b.plain(scale)]), channelShape)
    const scaled = b.add('Mul', [difference, factor])
    define(b, y, b.add('Add', [scaled, b.reshape(b.plain(beta), channelShape)]))
  },
}

/**
 * (dy, x, gamma, mean, scale) → dx, dgamma, dbeta, with scale = 1/sqrt(variance + epsilon), over n samples a channel:
 * dbeta = Σ dy, dgamma = scale Σ dy (x - mean), dx = gamma scale (dy - dbeta/n - (x - mean) scale dgamma/n).
 */
const gradient: Op = {
  inputs: ['dy', 'x', 'gamma', 'mean', 'scale'],
  list: true,
  dtypes: FLOAT,
  infer: ([, x]) => [x!, perChannel(x!), perChannel(x!)],
  lower: (b, node) => {
    const [dy, x, gamma, mean, scale] = node.inputs as [Value, Value, Value, Value, Value]
    const [dx, dgamma, dbeta] = node.outputs as [Value, Value, Value]
    const { name: upstream, axes, channelShape } = byChannel(b, dy)
    const difference = centred(b, x, b.plain(mean))
    const sum = (name: string) => b.add('ReduceSum', [name, b.ints(axes)], { keepdims: 0 })
    const inverse = b.scalar(x.shape.at(-1)! / sizeOf(x.shape))
    b.define(dbeta, sum(upstream))
    b.define(dgamma, b.add('Mul', [sum(b.add('Mul', [upstream, difference])), b.plain(scale)]))
    const shift = b.reshape(b.add('Mul', [b.plain(dbeta), inverse]), channelShape)
    const slope = b.add('Mul', [b.add('Mul', [b.plain(dgamma), b.plain(scale)]), inverse])
    const correction = b.add('Mul', [difference, b.reshape(slope, channelShape)])
    const residual = b.add('Sub', [b.add('Sub', [upstream, shift]), correction])
    const factor = b.reshape(b.add('Mul', [b.plain(gamma), b.plain(scale)]), channelShape)
    define(b, dx, b.add('Mul', [residual, factor]))
  },
}

/** y = (x - mean) / sqrt(variance + epsilon) · scale + offset, statistics per channel. */
const inference: Op = {
  inputs: ['x', 'scale', 'offset', 'mean', 'variance'],
  dtypes: FLOAT,
  refuse: ([x, , , mean]) =>
    mean!.shape.length === 1 && mean!.shape[0] === x!.shape.at(-1)
      ? undefined
      : 'was given statistics that are not one number a channel of the last dimension',
  infer: ([x]) => [x!],
  lower: (b, node: KernelNode) => {
    const [x, scale, offset, mean, variance] = node.inputs
    const channels = x!.shape.at(-1)!
    const vector = (value: Value | undefined, fallback: number) =>
      value ? b.plain(value) : b.constant('float32', [channels], new Float32Array(channels).fill(fallback))
    const { varianceEpsilon } = node.attrs as tf.FusedBatchNormAttrs
    const inputs = [
      byChannel(b, x!).name,
      vector(scale, 1),
      vector(offset, 0),
      b.plain(mean!),
      b.plain(variance!),
    ]
    define(b, node.outputs[0]!, b.add('BatchNormalization', inputs, { epsilon: { float: varianceEpsilon } }))
  },
}

export const batchNormOps = { FusedBatchNorm: inference } satisfies Record<string, Op>

/** Kernels that TensorFlow.js does not have: layers written anew (../layers.ts) call them. */
export const ownBatchNormOps = {
  LockstepBatchNorm: training,
  LockstepBatchNormGrad: gradient,
} satisfies Record<string, Op>
