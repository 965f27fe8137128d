/**
 * Convolution on blocked images: onnxruntime's direct kernels, which its own optimizer uses only for filters that are
 * constants. Filters of a model in training are not, so their reordering is written into the graph: a small transpose.
 */
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { BLOCKED_DOMAIN } from '../onnx.js'
import { type Activation, activate } from './elementwise.js'
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
