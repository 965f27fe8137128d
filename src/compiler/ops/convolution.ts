/**
 * 2-D convolution and its two gradients.
 *
 * Forward is ONNX Conv, the input gradient ConvTranspose. The filter gradient is, per filter tap (i, j), one GEMM
 * between the output gradient and the slice of the input that this tap has seen: three times faster in onnxruntime
 * than the Conv with swapped dimensions that textbooks write (see docs/decisions.md).
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Builder } from '../builder.js'
import { type KernelNode, sizeOf, type Value } from '../graph.js'
import { type Activation, activate, refuseActivation } from './elementwise.js'
import { FLOAT, type Op } from './op.js'
import { gradientMisfit, type Image, type Info, misfit, unreached, windowOf } from './window.js'

type Attrs = tf.Conv2DAttrs & { readonly inputShape?: Image; readonly filterShape?: Image }

function convInfo(inputShape: readonly number[], filterShape: readonly number[], attrs: unknown): Info {
  // Conv2DBackpropInput and -Filter have no dilations: TensorFlow.js has no gradient of a dilated convolution.
  const { strides, dilations = 1, pad, dimRoundingMode, dataFormat } = attrs as Attrs
  const format = tf.backend_util.convertConv2DDataFormat(dataFormat ?? 'NHWC')
  return tf.backend_util.computeConv2DInfo(
    inputShape as Image,
    filterShape as Image,
    strides,
    dilations,
    pad as 'valid',
    dimRoundingMode,
    false,
    format,
  )
}

const requireNhwc = (attrs: unknown): string | undefined =>
  (attrs as Attrs).dataFormat === 'NCHW'
    ? "was given dataFormat 'NCHW': transpose the image and use 'NHWC'"
    : undefined

/** TensorFlow.js' filter [h, w, in, out] as ONNX's [out, in, h, w]; also ConvTranspose's [in, out, h, w]. */
const onnxFilter = (b: Builder, filter: Value) => b.transpose(b.plain(filter), [3, 2, 0, 1])

function conv(b: Builder, node: KernelNode, bias: string | undefined): string {
  const [x, filter] = node.inputs as [Value, Value]
  const inputs = [b.nchw(x), onnxFilter(b, filter), ...(bias === undefined ? [] : [bias])]
  return b.add('Conv', inputs, { ...windowOf(convInfo(x.shape, filter.shape, node.attrs)) })
}

const inferConv: Op['infer'] = ([x, filter], attrs) => [
  { shape: convInfo(x!.shape, filter!.shape, attrs).outShape, dtype: 'float32' },
]

const refuseConv: Op['refuse'] = ([x, filter], attrs) =>
  requireNhwc(attrs) ?? misfit(convInfo(x!.shape, filter!.shape, attrs))

function inputGradient(b: Builder, node: KernelNode): string {
  const [dy, filter] = node.inputs as [Value, Value]
  const { inputShape } = node.attrs as Required<Attrs>
  const info = convInfo(inputShape, filter.shape, node.attrs)
  const attributes = { ...windowOf(info), output_padding: unreached(info) }
  return b.add('ConvTranspose', [b.nchw(dy), onnxFilter(b, filter)], attributes)
}

/** Below this many input channels one tap's GEMM has too few rows to pay: all taps share one. */
const NARROW = 16

function filterGradient(b: Builder, node: KernelNode): string {
  const [x, dy] = node.inputs as [Value, Value]
  const { filterShape } = node.attrs as Required<Attrs>
  const info = convInfo(x.shape, filterShape, node.attrs)
  const [batch, , , channels] = x.shape as Image
  const [, outHeight, outWidth, outChannels] = dy.shape as Image
  const pixels = outHeight * outWidth
  const dyByPixel = b.once(`by pixel ${dy.id}`, () =>
    b.isNchw(dy)
      ? b.transpose(b.reshape(b.nchw(dy), [batch, outChannels, pixels]), [0, 2, 1])
      : b.reshape(b.plain(dy), [batch, pixels, outChannels]),
  )
  const image = padded(b, b.nchw(x), info)
  const taps = tapOffsets(info).map(([top, left]) => tapSlice(b, image, info, top, left))
  const groups = channels < NARROW ? [b.add('Concat', taps, { axis: 1 })] : taps
  const rows = channels < NARROW ? channels * taps.length : channels
  const gradients = groups.map((tap) => {
    const perImage = b.add('MatMul', [b.reshape(tap, [batch, rows, pixels]), dyByPixel])
    return b.add('ReduceSum', [perImage, b.ints([0])], { keepdims: 0 })
  })
  const stacked = gradients.length === 1 ? gradients[0]! : b.add('Concat', gradients, { axis: 0 })
  return b.reshape(stacked, filterShape)
}

function tapOffsets(info: Info): [number, number][] {
  const offsets: [number, number][] = []
  for (let i = 0; i < info.filterHeight; i++) {
    for (let j = 0; j < info.filterWidth; j++) offsets.push([i * info.dilationHeight, j * info.dilationWidth])
  }
  return offsets
}

function padded(b: Builder, x: string, info: Info): string {
  const [top, left, bottom, right] = windowOf(info).pads
  if (top + left + bottom + right === 0) return x
  const pads = [0, 0, top, left, 0, 0, bottom, right]
  return b.once(`pad ${x} ${pads}`, () => b.add('Pad', [x, b.ints(pads)]))
}

/** The pixels of an NCHW image that the tap at (top, left) of the filter is multiplied with. */
function tapSlice(b: Builder, image: string, info: Info, top: number, left: number): string {
  const { strideHeight, strideWidth, outHeight, outWidth } = info
  const ends = [top + (outHeight - 1) * strideHeight + 1, left + (outWidth - 1) * strideWidth + 1]
  const starts = b.ints([top, left])
  return b.add('Slice', [image, starts, b.ints(ends), b.ints([2, 3]), b.ints([strideHeight, strideWidth])])
}

/** The bias of a fused convolution: most are one number a channel, which ONNX's Conv can add itself. */
function fusedConv(b: Builder, node: KernelNode): string {
  const bias = node.inputs[2]
  const channels = node.outputs[0]!.shape[3]
  if (bias === undefined) return conv(b, node, undefined)
  if (sizeOf(bias.shape) === channels && bias.shape.at(-1) === channels)
    return conv(b, node, b.reshape(b.plain(bias), [channels]))
  return b.add('Add', [conv(b, node, undefined), b.broadcastNchw(bias)])
}

export const convolutionOps = {
  Conv2D: {
    inputs: ['x', 'filter'],
    dtypes: FLOAT,
    refuse: refuseConv,
    infer: inferConv,
    lower: (b, node) => b.define(node.outputs[0]!, conv(b, node, undefined), 'nchw'),
  },
  FusedConv2D: {
    inputs: ['x', 'filter', 'bias'],
    dtypes: FLOAT,
    refuse: (inputs, attrs) => refuseActivation(attrs as Activation) ?? refuseConv(inputs, attrs),
    infer: inferConv,
    lower: (b, node) =>
      b.define(node.outputs[0]!, activate(b, fusedConv(b, node), node.attrs as Activation), 'nchw'),
  },
  Conv2DBackpropInput: {
    inputs: ['dy', 'filter'],
    dtypes: FLOAT,
    refuse: ([dy, filter], attrs) => {
      const { inputShape } = attrs as Required<Attrs>
      return requireNhwc(attrs) ?? gradientMisfit(convInfo(inputShape, filter!.shape, attrs), dy!.shape)
    },
    infer: (_, attrs) => [{ shape: (attrs as Required<Attrs>).inputShape, dtype: 'float32' }],
    lower: (b, node) => b.define(node.outputs[0]!, inputGradient(b, node), 'nchw'),
  },
  Conv2DBackpropFilter: {
    inputs: ['x', 'dy'],
    dtypes: FLOAT,
    infer: (_, attrs) => [{ shape: (attrs as Required<Attrs>).filterShape, dtype: 'float32' }],
    lower: (b, node) => b.define(node.outputs[0]!, filterGradient(b, node)),
  },
} satisfies Record<string, Op>
