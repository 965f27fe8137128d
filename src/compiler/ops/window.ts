/**
 * The geometry of a window that slides over an image or a volume, in ONNX's words: convolution and pooling share it.
 * All lists are by spatial dimension: [height, width] or [depth, height, width].
 */
import type * as tf from '@tensorflow/tfjs-core'
import { sameShape } from '../graph.js'

type Info = tf.backend_util.Conv2DInfo | tf.backend_util.Conv3DInfo

export interface Window {
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
  readonly kernel_shape: readonly number[]
  /** Before each dimension, then after each. */
  readonly pads: readonly number[]
}

/** A window, what it slides over, and how often it fits. */
export interface Sliding {
  readonly window: Window
  /** Pixels of the image. */
  readonly image: readonly number[]
  /** Positions of the window. */
  readonly positions: readonly number[]
  /** Of the output, in TensorFlow.js' order. */
  readonly outShape: readonly number[]
}

/**
 * Paddings are such that every window is whole: dimRoundingMode 'ceil' lets windows begin that end outside the image,
 * where ONNX would leave them out.
 */
export function slidingOf(info: Info): Sliding {
  const { top, left, bottom, right } = info.padInfo
  const flat = {
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    kernel_shape: [info.filterHeight, info.filterWidth],
  }
  const whole =
    'inDepth' in info
      ? {
          strides: [info.strideDepth, ...flat.strides],
          dilations: [info.dilationDepth, ...flat.dilations],
          kernel_shape: [info.filterDepth, ...flat.kernel_shape],
        }
      : flat
  const [before, after] =
    'inDepth' in info
      ? [
          [info.padInfo.front, top, left],
          [info.padInfo.back, bottom, right],
        ]
      : [
          [top, left],
          [bottom, right],
        ]
  const image = info.inShape.slice(1, -1)
  const positions = info.outShape.slice(1, -1)
  const ends = after.map((n, i) => Math.max(n, span(whole, i, positions[i]!) - before[i]! - image[i]!))
  return { window: { ...whole, pads: [...before, ...ends] }, image, positions, outShape: info.outShape }
}

/** How many pixels `count` windows in a row cover. */
function span(window: Omit<Window, 'pads'>, axis: number, count: number): number {
  return (count - 1) * window.strides[axis]! + (window.kernel_shape[axis]! - 1) * window.dilations[axis]! + 1
}

/** The pixels at the end of each dimension that no window reaches because the stride does not divide evenly. */
export function unreached({ window, image, positions }: Sliding): number[] {
  const { pads } = window
  return image.map((n, i) => n + pads[i]! + pads[i + image.length]! - span(window, i, positions[i]!))
}

/** Every place inside the window, in dilated pixels from its first. */
export function tapsOf({ kernel_shape, dilations }: Window): number[][] {
  return kernel_shape.reduce<number[][]>(
    (taps, size, axis) =>
      taps.flatMap((tap) => Array.from({ length: size }, (_, i) => [...tap, i * dilations[axis]!])),
    [[]],
  )
}

/** Why a window cannot slide over an image, or undefined when it can. */
export function misfit(sliding: Sliding): string | undefined {
  const { image, positions, window } = sliding
  const sizes = `an image of ${image.join('×')} and a window of ${window.kernel_shape.join('×')}`
  if (positions.some((n) => n <= 0))
    return `was given ${sizes}, which is larger: use padding 'same' or a smaller window`
  // In volumes TensorFlow.js then skips the first pixels, as no other library does.
  if (window.pads.some((n) => n < 0))
    return `was given ${sizes}, and strides larger than that with padding 'same': use 'valid'`
  // For a padding that is a number, TensorFlow.js computes the output's width from the window's height.
  if (unreached(sliding).some((rest, axis) => rest >= window.strides[axis]!))
    return `was given ${sizes}, not square, with a number as padding: use 'same', 'valid' or a padding for each side`
  return undefined
}

/** The same for a gradient, whose `dy` must have the shape of the forward pass' output. */
export function gradientMisfit(sliding: Sliding, dy: readonly number[]): string | undefined {
  // TensorFlow.js' gradients of convolution and pooling do not pass dimRoundingMode on.
  return sameShape(sliding.outShape, dy)
    ? misfit(sliding)
    : `was given a gradient of [${dy}] for an output of [${sliding.outShape}]: TensorFlow.js has no gradient of dimRoundingMode 'ceil'`
}
