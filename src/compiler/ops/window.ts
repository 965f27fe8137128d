/** The geometry of a window that slides over an image, in ONNX's words: convolution and pooling share it. */
import type * as tf from '@tensorflow/tfjs-core'
import { sameShape } from '../graph.js'

export type Image = [number, number, number, number]
export type Info = tf.backend_util.Conv2DInfo

type Pair = [number, number]

export interface Window {
  readonly strides: Pair
  readonly dilations: Pair
  readonly kernel_shape: Pair
  /** Top, left, bottom, right. */
  readonly pads: [number, number, number, number]
}

/**
 * Paddings are such that every window is whole: dimRoundingMode 'ceil' lets windows begin that end outside the image,
 * where ONNX would leave them out.
 */
export function windowOf(info: Info): Window {
  const strides: Pair = [info.strideHeight, info.strideWidth]
  const dilations: Pair = [info.dilationHeight, info.dilationWidth]
  const kernel_shape: Pair = [info.filterHeight, info.filterWidth]
  const { top, left, bottom, right } = info.padInfo
  const end = (axis: 0 | 1, before: number, after: number, length: number, count: number) =>
    Math.max(after, span({ strides, dilations, kernel_shape }, axis, count) - before - length)
  const pads: Window['pads'] = [
    top,
    left,
    end(0, top, bottom, info.inHeight, info.outHeight),
    end(1, left, right, info.inWidth, info.outWidth),
  ]
  return { strides, dilations, kernel_shape, pads }
}

/** How many pixels `count` windows in a row cover. */
function span(window: Omit<Window, 'pads'>, axis: 0 | 1, count: number): number {
  return (count - 1) * window.strides[axis] + (window.kernel_shape[axis] - 1) * window.dilations[axis] + 1
}

/** The rows and columns at the end that no window reaches because the stride does not divide evenly. */
export function unreached(info: Info): Pair {
  const { inHeight, inWidth, outHeight, outWidth } = info
  const window = windowOf(info)
  const rest = (axis: 0 | 1, length: number, count: number) =>
    length + window.pads[axis] + window.pads[axis + 2]! - span(window, axis, count)
  return [rest(0, inHeight, outHeight), rest(1, inWidth, outWidth)]
}

/** Why a window cannot slide over an image, or undefined when it can. */
export function misfit(info: Info): string | undefined {
  const sizes = `an image of ${info.inHeight}×${info.inWidth} and a window of ${info.filterHeight}×${info.filterWidth}`
  if (info.outHeight <= 0 || info.outWidth <= 0)
    return `was given ${sizes}, which is larger: use padding 'same' or a smaller window`
  // For a padding that is a number, TensorFlow.js computes the output's width from the window's height.
  if (unreached(info).some((rest, axis) => rest >= windowOf(info).strides[axis]!))
    return `was given ${sizes}, not square, with a number as padding: use 'same', 'valid' or a padding for each side`
  return undefined
}

/** The same for a gradient, whose `dy` must have the shape of the forward pass' output. */
export function gradientMisfit(info: Info, dy: readonly number[]): string | undefined {
  // TensorFlow.js' gradients of convolution and pooling do not pass dimRoundingMode on.
  return sameShape(info.outShape, dy)
    ? misfit(info)
    : `was given a gradient of [${dy}] for an output of [${info.outShape}]: TensorFlow.js has no gradient of dimRoundingMode 'ceil'`
}
