/**
 * Convolution in two and three dimensions, depthwise convolution, and the gradients of both.
 *
 * Forward is ONNX Conv, the input gradient ConvTranspose; where the channels of an image fill blocks, both are
 * onnxruntime's direct convolution (./blocked-convolution.ts), up to twice as fast. The filter gradient is, per filter tap,
 * one product of the output gradient and the slice of the input that this tap has seen, by GEMM or by that convolution:
 * three times faster in onnxruntime than the Conv with swapped dimensions that textbooks write (see docs/decisions.md).
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import {
  blockedConv,
  blockedFilterGradient,
  canBlock,
  canBlockPixels,
  FEW,
  forwardFilter,
  mirroredFilter,
  mirroredWindow,
} from './blocked-convolution.js'
import { type Activation, activate, refuseActivation } from './elementwise.js'
import { FLOAT, type Op } from './op.js'
import { productOverRows } from './product-over-rows.js'
import { tapSlices } from './taps.js'
import { gradientMisfit, misfit, type Sliding, slidingOf, unreached } from './window.js'

type Image = [number, number, number, number]
type Volume = [number, number, number, number, number]

interface Attrs {
  readonly strides: number | [number, number]
  readonly pad: 'valid' | 'same' | number
  /** Absent from TensorFlow.js' gradient kernels, which have none: ours (../gradients/) pass it on. */
  readonly dilations?: number | [number, number] | null
  readonly dataFormat?: string
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil'
  readonly inputShape: readonly number[]
  readonly filterShape: readonly number[]
}

/** A kind of convolution: how its window slides, and how many groups of channels do not mix. */
interface Kind {
  sliding(inputShape: readonly number[], filterShape: readonly number[], attrs: unknown): Sliding
  groups(filterShape: readonly number[]): number
}

function planar(depthwise: boolean): Kind['sliding'] {
  return (input, filter, attrs) => {
    const { strides, dilations, pad, dimRoundingMode } = attrs as Attrs
    return slidingOf(
      tf.backend_util.computeConv2DInfo(
        input as Image,
        filter as Image,
        strides,
        dilations ?? 1,
        pad,
        dimRoundingMode,
        depthwise,
      ),
    )
  }
}

const plain: Kind = { sliding: planar(false), groups: () => 1 }

/** One filter per input channel: filter [height, width, channels, multiplier]. */
const depthwise: Kind = { sliding: planar(true), groups: (filter) => filter.at(-2)! }

const volumetric: Kind = {
  sliding: (input, filter, attrs) => {
    const { strides, dilations, pad } = attrs as Attrs
    const triple = (n: unknown) => n as number | [number, number, number]
    return slidingOf(
      tf.backend_util.computeConv3DInfo(
        input as Volume,
        filter as Volume,
        triple(strides),
        triple(dilations ?? 1),
        pad,
      ),
    )
  },
  groups: () => 1,
}

const refuseFormat = (attrs: unknown): string | undefined =>
  (attrs as Attrs).dataFormat === 'NCHW'
    ? "was given dataFormat 'NCHW': transpose the image and use 'NHWC'"
    : undefined

/**
 * TensorFlow.js' filter [...window, in, out] as ONNX's [out, in, ...window], which is ConvTranspose's
 * [in, out, ...window] of the gradient too; a depthwise one [...window, in, multiplier] as [in · multiplier, 1, ...window].
 */
function onnxFilter(b: Builder, filter: Value, groups: number): string {
  const rank = filter.shape.length
  const window = filter.shape.slice(0, -2)
  const places = window.map((_, i) => i)
  if (groups === 1) return b.transpose(b.plain(filter), [rank - 1, rank - 2, ...places])
  const byChannel = b.transpose(b.plain(filter), [rank - 2, rank - 1, ...places])
  return b.reshape(byChannel, [sizeOf(filter.shape.slice(-2)), 1, ...window])
}

/** Defines the output: x ∗ filter (+ bias, one number a channel), and an activation. */
function conv(b: Builder, node: KernelNode, kind: Kind, activation: Activation, bias?: string): void {
  const [x, filter] = node.inputs as [Value, Value]
  const [output] = node.outputs as [Value]
  const { window } = kind.sliding(x.shape, filter.shape, node.attrs)
  if (kind === plain && canBlock(b, filter)) {
    blockedConv(b, x, forwardFilter(b, filter), bias, window, output, activation)
    return
  }
  b.define(output, activate(b, nchwConv(b, node, kind, bias), activation), 'nchw')
}

/** x ∗ filter (+ bias, one number a channel) by ONNX's own operator, in NCHW. */
function nchwConv(b: Builder, node: KernelNode, kind: Kind, bias?: string): string {
  const [x, filter] = node.inputs as [Value, Value]
  const { window } = kind.sliding(x.shape, filter.shape, node.attrs)
  const group = kind.groups(filter.shape)
  const inputs = [b.nchw(x), onnxFilter(b, filter, group), ...(bias === undefined ? [] : [bias])]
  return b.add('Conv', inputs, { ...window, ...(group > 1 && { group }) })
}

function inputGradient(b: Builder, node: KernelNode, kind: Kind): void {
  const [dy, filter] = node.inputs as [Value, Value]
  const [output] = node.outputs as [Value]
  const sliding = kind.sliding((node.attrs as Attrs).inputShape, filter.shape, node.attrs)
  const mirrored = kind === plain ? mirroredWindow(sliding) : undefined
  if (mirrored !== undefined && canBlock(b, filter)) {
    blockedConv(b, dy, mirroredFilter(b, filter), undefined, mirrored, output, {})
    return
  }
  const group = kind.groups(filter.shape)
  const result = b.add('ConvTranspose', [b.nchw(dy), onnxFilter(b, filter, group)], {
    ...sliding.window,
    output_padding: unreached(sliding),
    ...(group > 1 && { group }),
  })
  b.define(output, result, 'nchw')
}

/** Below this many input channels one tap's GEMM has too few rows to pay: all taps share one. */
const NARROW = 16

function filterGradient(b: Builder, node: KernelNode, kind: Kind): string {
  const [x, dy] = node.inputs as [Value, Value]
  const { filterShape } = node.attrs as Attrs
  const sliding = kind.sliding(x.shape, filterShape, node.attrs)
  const [batch, channels] = [x.shape[0]!, x.shape.at(-1)!]
  const outChannels = dy.shape.at(-1)!
  const pixels = sizeOf(sliding.positions)
  if (kind === plain && canBlockPixels(b, x, pixels)) {
    return blockedFilterGradient(b, x, dy, sliding, filterShape)
  }
  if (pixels < FEW && channels >= NARROW) {
    const rows = (name: string, columns: number) => b.reshape(name, [batch * pixels, columns])
    const upstream = rows(b.plain(dy), outChannels)
    const products = tapSlices(b, x, sliding, 'plain').map((tap) =>
      productOverRows(b, rows(tap, channels), upstream, [batch * pixels, channels, outChannels]),
    )
    return b.reshape(b.concat(products), filterShape)
  }
  const dyByPixel = b.once(`by pixel ${dy.id}`, () =>
    b.layoutOf(dy) === 'nchw'
      ? b.transpose(b.reshape(b.nchw(dy), [batch, outChannels, pixels]), [0, 2, 1])
      : b.reshape(b.plain(dy), [batch, pixels, outChannels]),
  )
  const taps = tapSlices(b, x, sliding, 'nchw')
  const groups = channels < NARROW ? [b.add('Concat', taps, { axis: 1 })] : taps
  const rows = channels < NARROW ? channels * taps.length : channels
  const gradients = groups.map((tap) => {
    const perImage = b.add('MatMul', [b.reshape(tap, [batch, rows, pixels]), dyByPixel])
    return b.sumRows(perImage, batch, [rows, outChannels])
  })
  return b.reshape(b.concat(gradients), filterShape)
}

/** Per tap and channel, the product of what the tap has seen and that channel's output gradients. */
function depthwiseFilterGradient(b: Builder, node: KernelNode): string {
  const [x, dy] = node.inputs as [Value, Value]
  const { filterShape } = node.attrs as Attrs
  const sliding = depthwise.sliding(x.shape, filterShape, node.attrs)
  const batch = x.shape[0]!
  const [channels, multiplier] = filterShape.slice(-2) as [number, number]
  const pixels = sizeOf(sliding.positions)
  // Not a GEMM: of one row and column each, it takes four times as long.
  const upstream = b.reshape(b.nchw(dy), [batch, channels, multiplier, pixels])
  const gradients = tapSlices(b, x, sliding, 'nchw').map((tap) => {
    const products = b.add('Mul', [b.reshape(tap, [batch, channels, 1, pixels]), upstream])
    const shape = [batch, channels, multiplier, pixels]
    return b.reduce('ReduceSum', products, { shape, dtype: 'float32' }, [0, 3])
  })
  return b.reshape(b.add('Concat', gradients, { axis: 0 }), filterShape)
}

/** The bias of a fused convolution: most are one number a channel, which a convolution can add itself. */
function fusedConv(b: Builder, node: KernelNode, kind: Kind): void {
  const [, , bias] = node.inputs
  const [output] = node.outputs as [Value]
  const activation = node.attrs as Activation
  const channels = output.shape.at(-1)!
  if (bias === undefined || (sizeOf(bias.shape) === channels && bias.shape.at(-1) === channels)) {
    conv(b, node, kind, activation, bias && b.reshape(b.plain(bias), [channels]))
    return
  }
  const sum = b.add('Add', [nchwConv(b, node, kind), b.broadcast(bias, output, 'nchw')])
  b.define(output, activate(b, sum, activation), 'nchw')
}

const inferConv =
  (kind: Kind): Op['infer'] =>
  ([x, filter], attrs) => [{ shape: kind.sliding(x!.shape, filter!.shape, attrs).outShape, dtype: 'float32' }]

const refuseConv =
  (kind: Kind) =>
  ([x, filter]: readonly Value[], attrs: unknown) =>
    refuseFormat(attrs) ?? misfit(kind.sliding(x!.shape, filter!.shape, attrs))

const forward = (kind: Kind): Op => ({
  inputs: ['x', 'filter'],
  dtypes: FLOAT,
  refuse: refuseConv(kind),
  infer: inferConv(kind),
  lower: (b, node) => conv(b, node, kind, {}),
})

const fused = (kind: Kind): Op => ({
  inputs: ['x', 'filter', 'bias'],
  dtypes: FLOAT,
  refuse: (inputs, attrs) => refuseActivation(attrs as Activation) ?? refuseConv(kind)(inputs, attrs),
  infer: inferConv(kind),
  lower: (b, node) => fusedConv(b, node, kind),
})

const backpropInput = (kind: Kind): Op => ({
  inputs: ['dy', 'filter'],
  dtypes: FLOAT,
  refuse: ([dy, filter], attrs) => {
    const { inputShape } = attrs as Attrs
    return refuseFormat(attrs) ?? gradientMisfit(kind.sliding(inputShape, filter!.shape, attrs), dy!.shape)
  },
  infer: (_, attrs) => [{ shape: (attrs as Attrs).inputShape, dtype: 'float32' }],
  lower: (b, node) => inputGradient(b, node, kind),
})

const backpropFilter = (make: (b: Builder, node: KernelNode) => string): Op => ({
  inputs: ['x', 'dy'],
  dtypes: FLOAT,
  infer: (_, attrs) => [{ shape: (attrs as Attrs).filterShape, dtype: 'float32' }],
  lower: (b, node) => b.define(node.outputs[0]!, make(b, node)),
})

export const convolutionOps = {
  Conv2D: forward(plain),
  Conv2DBackpropFilter: backpropFilter((b, node) => filterGradient(b, node, plain)),
  Conv2DBackpropInput: backpropInput(plain),
  Conv3D: forward(volumetric),
  Conv3DBackpropFilterV2: backpropFilter((b, node) => filterGradient(b, node, volumetric)),
  Conv3DBackpropInputV2: backpropInput(volumetric),
  DepthwiseConv2dNative: forward(depthwise),
  DepthwiseConv2dNativeBackpropFilter: backpropFilter(depthwiseFilterGradient),
  DepthwiseConv2dNativeBackpropInput: backpropInput(depthwise),
  FusedConv2D: fused(plain),
  FusedDepthwiseConv2D: fused(depthwise),
} satisfies Record<string, Op>
