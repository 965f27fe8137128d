/**
 * Max-pooling's gradient without the indices of the maxima, which onnxruntime's WebGPU provider does not give: each tap
 * (place in the window) passes a gradient on where it holds the window's maximum and no tap before it does.
 */
import type { Builder } from '../builder.js'
import type { Value } from '../graph.js'
import { onnxType } from '../onnx.js'
import { type Sliding, tapsOf, unreached } from './window.js'

const LOWEST = -3.4028234663852886e38

/**
 * @param gradient of the pooled values, in NCHW
 * @param maxima the pooled values, in NCHW
 * @returns the input's gradient, in NCHW
 */
export function gradientByTaps(
  b: Builder,
  gradient: string,
  maxima: string,
  input: Value,
  sliding: Sliding,
): string {
  const shares = sharesOfTaps(b, tapValues(b, input, sliding), maxima, gradient, input, sliding)
  return spreadShares(b, shares, input, sliding)
}

/**
 * What each tap gets of a maximum's gradient, [batch * channels, taps, ...positions]: the first that holds the maximum all.
 * @param values what each tap has brought to the maximum, in NCHW
 */
export function sharesOfTaps(
  b: Builder,
  values: readonly string[],
  maxima: string,
  gradient: string,
  input: Value,
  { positions }: Sliding,
): string {
  const images = input.shape[0]! * input.shape.at(-1)!
  const perImage = (name: string) => b.reshape(name, [images, 1, ...positions])
  const all = b.add('Concat', values.map(perImage), { axis: 1 })
  const isMaximum = b.add('Cast', [b.add('Equal', [all, perImage(maxima)])], { to: onnxType.float32 })
  const before = b.add('CumSum', [isMaximum, b.constant('int64', [], BigInt64Array.of(1n))], { exclusive: 1 })
  const isFirst = b.add('Mul', [isMaximum, b.add('Relu', [b.add('Sub', [b.scalar(1), before])])])
  return b.add('Mul', [isFirst, perImage(gradient)])
}

/** Each tap's shares put back to where it had looked, and added up there: in NCHW. */
export function spreadShares(b: Builder, shares: string, input: Value, sliding: Sliding): string {
  const { kernel_shape, strides, pads, dilations } = sliding.window
  const taps = tapsOf(sliding.window)
  // Filter k is one at tap k.
  const filters = new Float32Array(taps.length ** 2)
  for (let k = 0; k < taps.length; k++) filters[k * taps.length + k] = 1
  const oneHot = b.constant('float32', [taps.length, 1, ...kernel_shape], filters)
  const spread = b.add('ConvTranspose', [shares, oneHot], {
    kernel_shape,
    strides,
    pads,
    dilations,
    output_padding: unreached(sliding),
  })
  return b.reshape(spread, [input.shape[0]!, input.shape.at(-1)!, ...sliding.image])
}

/** For each tap the pixels that it sees, [batch, channels, ...positions]; beyond the image it sees the lowest number. */
export function tapValues(b: Builder, input: Value, { window, positions }: Sliding): string[] {
  const { pads, strides } = window
  const axes = b.ints(strides.map((_, i) => i + 2))
  const padded = [0, 0, ...pads.slice(0, strides.length), 0, 0, ...pads.slice(strides.length)]
  const image = pads.every((n) => n === 0)
    ? b.nchw(input)
    : b.add('Pad', [b.nchw(input), b.ints(padded), b.scalar(LOWEST)])
  return tapsOf(window).map((starts) => {
    const ends = starts.map((start, i) => start + (positions[i]! - 1) * strides[i]! + 1)
    return b.add('Slice', [image, b.ints(starts), b.ints(ends), axes, b.ints(strides)])
  })
}
