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
import { activate } from './elementwise.js'
import type { Op } from './op.js'

type Info = tf.backend_util.Conv2DInfo
type Image = [number, number, number, number]
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

const requireNhwc = (attrs: unknown): void => {
  if (((attrs as Attrs).dataFormat ?? 'NHWC') !== 'NHWC')
    throw new Error("convolutions need dataFormat 'NHWC'")
}

const window = (info: Info) => ({
  strides: [info.strideHeight, info.strideWidth],
  dilations: [info.dilationHeight, info.dilationWidth],
  kernel_shape: [info.filterHeight, info.filterWidth],
  pads: [info.padInfo.top, info.padInfo.left, info.padInfo.bottom, info.padInfo.right],
})

/** TensorFlow.js' filter [h, w, in, out] as ONNX's [out, in, h, w]; also ConvTranspose's [in, out, h, w]. */
const onnxFilter = (b: Builder, filter: Value) => b.transpose(b.plain(filter), [3, 2, 0, 1])

function conv(b: Builder, node: KernelNode, bias: string | undefined): string {
  const [x, filter] = node.inputs as [Value, Value]
  const inputs = [b.nchw(x), onnxFilter(b, filter), ...(bias === undefined ? [] : [bias])]
  return b.add('Conv', inputs, window(convInfo(x.shape, filter.shape, node.attrs)))
}

const inferConv: Op['infer'] = ([x, filter], attrs) => {
  requireNhwc(attrs)
  return [{ shape: convInfo(x!.shape, filter!.shape, attrs).outShape, dtype: 'float32' }]
}

function inputGradient(b: Builder, node: KernelNode): string {
  const [dy, filter] = node.inputs as [Value, Value]
  const { inputShape } = node.attrs as Required<Attrs>
  const info = convInfo(inputShape, filter.shape, node.attrs)
  const { strides, dilations, kernel_shape, pads } = window(info)
  // Rows and columns at the end that no window reached: a stride that does not divide evenly.
  const rest = (axis: 0 | 1) => {
    const span = (dy.shape[axis + 1]! - 1) * strides[axis]! + (kernel_shape[axis]! - 1) * dilations[axis]! + 1
    return inputShape[axis + 1]! + pads[axis]! + pads[axis + 2]! - span
  }
  const output_padding = [rest(0), rest(1)]
  const attributes = { strides, dilations, kernel_shape, pads, output_padding }
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
  const { top, left, bottom, right } = info.padInfo
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

export const convolutionOps = {
  Conv2D: {
    inputs: ['x', 'filter'],
    infer: inferConv,
    lower: (b, node) => b.define(node.outputs[0]!, conv(b, node, undefined), 'nchw'),
  },
  FusedConv2D: {
    inputs: ['x', 'filter', 'bias'],
    infer: inferConv,
    lower: (b, node) => {
      const bias = node.inputs[2]
      const flat = bias && b.reshape(b.plain(bias), [sizeOf(bias.shape)])
      b.define(node.outputs[0]!, activate(b, conv(b, node, flat), node.attrs as tf.FusedConv2DAttrs), 'nchw')
    },
  },
  Conv2DBackpropInput: {
    inputs: ['dy', 'filter'],
    infer: (_, attrs) => {
      requireNhwc(attrs)
      return [{ shape: (attrs as Required<Attrs>).inputShape, dtype: 'float32' }]
    },
    lower: (b, node) => b.define(node.outputs[0]!, inputGradient(b, node), 'nchw'),
  },
  Conv2DBackpropFilter: {
    inputs: ['x', 'dy'],
    infer: (_, attrs) => {
      requireNhwc(attrs)
      return [{ shape: (attrs as Required<Attrs>).filterShape, dtype: 'float32' }]
    },
    lower: (b, node) => b.define(node.outputs[0]!, filterGradient(b, node)),
  },
} satisfies Record<string, Op>
