/**
 * Batch normalization: TensorFlow.js' inference kernel, and two kernels of our own for training. TensorFlow.js writes
 * the training pass in dozens of small ops that tile the statistics to full size; here it is one node each way.
 * Method: Ioffe & Szegedy 2015, with the biased variance, as TensorFlow.js has it.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { type Builder, channelsSecond, isImage, type Layout } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { FLOAT, type Op } from './op.js'

export interface BatchNormAttrs {
  /** The dimension that keeps statistics of its own: the last. */
  readonly epsilon: number
}

/** x as the statistics are taken from it. */
interface View {
  readonly name: string
  readonly shape: readonly number[]
  readonly layout: Layout
  /** The dimensions that are averaged away. */
  readonly axes: number[]
  /** Of one number per channel, to broadcast over x. */
  readonly channelShape: number[]
}

/** An image in NHWC where it is known so, else NCHW (or as `given`); anything else as a matrix [rows, channels]. */
function byChannel(b: Builder, x: Value, given?: Layout): View {
  const channels = x.shape.at(-1)!
  if (!isImage(x.shape)) {
    const shape = [sizeOf(x.shape) / channels, channels]
    const name = b.reshape(b.plain(x), shape)
    return { name, shape, layout: 'plain', axes: [0], channelShape: [channels] }
  }
  const layout = given ?? (b.layoutOf(x) === 'plain' ? 'plain' : 'nchw')
  const { length: rank } = x.shape
  const pixels = x.shape.slice(1, -1).map((_, i) => (layout === 'plain' ? i + 1 : i + 2))
  const channelShape = b.channelShape(channels, layout, rank)
  const shape = layout === 'plain' ? x.shape : channelsSecond(x.shape)
  return { name: b.as(x, layout), shape, layout, axes: [0, ...pixels], channelShape }
}

/** Defines an output that has x's shape and is known as `x` was seen. */
function define(b: Builder, output: Value, name: string, { layout }: View): void {
  b.define(output, isImage(output.shape) ? name : b.reshape(name, output.shape), layout)
}

const perChannel = (x: Value) => ({ shape: [x.shape.at(-1)!], dtype: 'float32' as const })

/** One number per channel. */
function overRest(b: Builder, op: string, name: string, { shape, axes }: View): string {
  return b.reduce(op, name, { shape, dtype: 'float32' }, axes)
}

/** x minus its mean per channel: needed forward and backward, computed once. */
function centred(b: Builder, { name, channelShape }: View, mean: string): string {
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
    const view = byChannel(b, x)
    const { name, channelShape } = view
    b.define(mean, overRest(b, 'ReduceMean', name, view))
    const difference = centred(b, view, b.plain(mean))
    // onnxruntime has a fast path for sums and means, not for ReduceSumSquare.
    b.define(variance, overRest(b, 'ReduceMean', b.add('Mul', [difference, difference]), view))
    const { epsilon } = node.attrs as BatchNormAttrs
    const deviation = b.add('Sqrt', [b.add('Add', [b.plain(variance), b.scalar(epsilon)])])
    b.define(scale, b.add('Reciprocal', [deviation]))
    const factor = b.reshape(b.add('Mul', [b.plain(gamma), b.plain(scale)]), channelShape)
    const scaled = b.add('Mul', [difference, factor])
    define(b, y, b.add('Add', [scaled, b.reshape(b.plain(beta), channelShape)]), view)
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
    const view = byChannel(b, x)
    const { channelShape } = view
    const { name: upstream } = byChannel(b, dy, view.layout)
    const difference = centred(b, view, b.plain(mean))
    const channels = x.shape.at(-1)!
    const sum = (name: string) => overRest(b, 'ReduceSum', name, view)
    const inverse = b.scalar(channels / sizeOf(x.shape))
    b.define(dbeta, sum(upstream))
    b.define(dgamma, b.add('Mul', [sum(b.add('Mul', [upstream, difference])), b.plain(scale)]))
    const shift = b.reshape(b.add('Mul', [b.plain(dbeta), inverse]), channelShape)
    const slope = b.add('Mul', [b.add('Mul', [b.plain(dgamma), b.plain(scale)]), inverse])
    const correction = b.add('Mul', [difference, b.reshape(slope, channelShape)])
    const residual = b.add('Sub', [b.add('Sub', [upstream, shift]), correction])
    const factor = b.reshape(b.add('Mul', [b.plain(gamma), b.plain(scale)]), channelShape)
    define(b, dx, b.add('Mul', [residual, factor]), view)
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
    const deviation = b.add('Sqrt', [b.add('Add', [b.plain(variance!), b.scalar(varianceEpsilon)])])
    const factor = b.add('Div', [vector(scale, 1), deviation])
    const shift = b.add('Sub', [vector(offset, 0), b.add('Mul', [b.plain(mean!), factor])])
    const view = byChannel(b, x!)
    const shaped = (name: string) => b.reshape(name, view.channelShape)
    define(
      b,
      node.outputs[0]!,
      b.add('Add', [b.add('Mul', [view.name, shaped(factor)]), shaped(shift)]),
      view,
    )
  },
}

export const batchNormOps = { FusedBatchNorm: inference } satisfies Record<string, Op>

/** Kernels that TensorFlow.js does not have: layers written anew (../layers.ts) call them. */
export const ownBatchNormOps = {
  LockstepBatchNorm: training,
  LockstepBatchNormGrad: gradient,
} satisfies Record<string, Op>
