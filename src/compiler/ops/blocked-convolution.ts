/**
 * Convolution on blocked images: onnxruntime's direct kernels, which its own optimizer uses only for filters that are
 * constants. Filters of a model in training are not, so their reordering is written into the graph: a small transpose.
 */
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { BLOCKED_DOMAIN } from '../onnx.js'
import { type Activation, activate } from './elementwise.js'
import { UNIT_WINDOW } from './product-over-rows.js'
import { tapSlices } from './taps.js'
import type { Sliding, Window } from './window.js'

/** Both of the filter's channel counts [h, w, in, out] must fill blocks. */
export function canBlock(b: Builder, filter: Value): boolean {
  return b.blocks(filter.shape[2]!) && b.blocks(filter.shape[3]!)
}

/** Defines `output` as the convolution of x with a reordered filter, bias and activation included. */
export function blockedConv(
  b: Builder,
  x: Value,
  filter: string,
  bias: string | undefined,
  window: Window,
  output: Value,
  activation: Activation,
): void {
  const inputs = [b.blockedAsFour(x), filter, ...(bias === undefined ? [] : [bias])]
  const fused = activation.activation === 'relu'
  const attributes = { ...window, ...(fused && { activation: 'Relu' }) }
  b.defineBlocked(output, b.add('Conv', inputs, attributes, BLOCKED_DOMAIN))
  if (fused || (activation.activation ?? 'linear') === 'linear') return
  b.define(output, activate(b, b.as(output, 'blocked'), activation), 'blocked')
}

/**
 * TensorFlow.js' filter [h, w, in, out] as [out/block, in/block, h, w, in-block, out-block]. As one transpose this takes
 * up to five times as long as when the operator that reorders images blocks the channels.
 */
export function forwardFilter(b: Builder, filter: Value): string {
  const [h, w, input, output] = filter.shape as [number, number, number, number]
  const block = b.block!
  const rows = b.reshape(b.plain(filter), [1, 1, h * w * input, output])
  const blocked = b.add('ReorderInput', [rows], { channels_last: 1 }, BLOCKED_DOMAIN)
  const four = b.reshape(blocked, [output / block, h * w, input / block, block * block])
  return b.reshape(b.transpose(four, [0, 2, 1, 3]), [output, input, h, w])
}

/** The filter of the input gradient: turned by 180 degrees, its channels exchanged. */
export function mirroredFilter(b: Builder, filter: Value): string {
  const [h, w, input, output] = filter.shape as [number, number, number, number]
  const block = b.block!
  const images = b.reshape(b.plain(filter), [h * w, input, 1, output])
  const backwards = [b.ints([-1]), b.ints([-(h * w + 1)]), b.ints([0]), b.ints([-1])]
  const turned = h * w === 1 ? images : b.add('Slice', [images, ...backwards])
  const blocked = b.add('ReorderInput', [turned], { channels_last: 0 }, BLOCKED_DOMAIN)
  const four = b.reshape(blocked, [h * w, input / block, output / block, block * block])
  return b.reshape(b.transpose(four, [1, 2, 0, 3]), [input, output, h, w])
}

/**
 * The window with which a mirrored filter slides over the output gradient to give the input gradient; undefined where
 * that is no plain convolution, because the forward pass strides, dilates or pads by more than the filter.
 */
export function mirroredWindow({ window, image, positions }: Sliding): Window | undefined {
  const { strides, dilations, kernel_shape, pads } = window
  if ([...strides, ...dilations].some((n) => n !== 1)) return undefined
  const before = kernel_shape.map((size, axis) => size - 1 - pads[axis]!)
  const after = kernel_shape.map((size, axis) => image[axis]! - positions[axis]! + size - 1 - before[axis]!)
  const mirrored = [...before, ...after]
  return mirrored.some((pad) => pad < 0) ? undefined : { strides, dilations, kernel_shape, pads: mirrored }
}

/** Below this many pixels an image's own product is larger than what it is made of: all images share one. */
export const FEW = 64

/** Whether a filter's gradient can be had from a blocked x and as many positions of the window. */
export function canBlockPixels(b: Builder, x: Value, pixels: number): boolean {
  return b.blocks(x.shape[3]!) && b.blocks(pixels) && pixels >= FEW
}

/**
 * The filter's gradient [h, w, in, out], per tap one product a sample of what the tap has seen and the output gradient, as
 * a convolution with 1×1 filters: its channels are the pixels that are summed over, its pixels the output channels, its
 * filters the input channels, its groups the samples. A blocked image is, as it lies, such a blocked filter. Nothing needs
 * packing, so it takes two thirds of the time of a GEMM.
 */
export function blockedFilterGradient(
  b: Builder,
  x: Value,
  dy: Value,
  sliding: Sliding,
  filterShape: readonly number[],
): string {
  const [batch, channels, outChannels] = [x.shape[0]!, x.shape[3]!, dy.shape[3]!]
  const pixels = dy.shape[1]! * dy.shape[2]!
  const upstream = pixelsAsChannels(b, dy)
  const taps = tapSlices(b, x, sliding, 'blocked').map((tap) => {
    const filter = b.reshape(tap, [batch * channels, pixels, 1, 1])
    const products = b.add('Conv', [upstream, filter], { ...UNIT_WINDOW, group: batch }, BLOCKED_DOMAIN)
    return b.sumRows(products, batch, [1, channels * outChannels])
  })
  const stacked = b.reshape(b.concat(taps), [taps.length, channels, 1, outChannels])
  const attributes = { channels, channels_last: 0 }
  return b.reshape(b.add('ReorderOutput', [stacked], attributes, BLOCKED_DOMAIN), filterShape)
}

/** An image [n, h, w, c] as the blocked image [1, n · h · w, 1, c]. */
function pixelsAsChannels(b: Builder, image: Value): string {
  const [n, h, w, c] = image.shape as [number, number, number, number]
  const block = b.block!
  return b.once(`pixels as channels ${image.id}`, () => {
    const shape = [1, n * h * w, 1, c]
    if (b.layoutOf(image) === 'nchw') {
      const blocks = b.reshape(b.nchw(image), [n, c, (h * w) / block, block])
      return b.reshape(b.transpose(blocks, [0, 2, 1, 3]), shape)
    }
    return b.add('ReorderInput', [b.reshape(b.plain(image), shape)], { channels_last: 0 }, BLOCKED_DOMAIN)
  })
}
