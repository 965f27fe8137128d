/**
 * aᵀ b of tall matrices: the gradient of weights and of small images' filters. As a GEMM it packs and transposes as much as
 * it multiplies; as a direct 1×1 convolution, whose channels are the rows that are summed over, it reaches the processor's
 * peak but for three reorderings.
 */
import type { Builder } from '../builder.js'
import { BLOCKED_DOMAIN } from '../onnx.js'

/** Below this many rows, or numbers in the result, the reorderings cost what the convolution saves. */
const TALL = 256
const LARGE = 1 << 15

export const UNIT_WINDOW = { strides: [1, 1], dilations: [1, 1], kernel_shape: [1, 1], pads: [0, 0, 0, 0] }

/** [m, n] of `left` [rows, m] and `right` [rows, n]. */
export function productOverRows(
  b: Builder,
  left: string,
  right: string,
  [rows, m, n]: readonly [number, number, number],
): string {
  const worthwhile = rows >= TALL && m * n >= LARGE
  if (!worthwhile || !b.blocks(rows) || !b.blocks(Math.min(m, n))) {
    return b.shaped(b.add('Gemm', [left, right], { transA: 1 }), [m, n])
  }
  const leftIsImage = m >= n
  const [image, filter] = leftIsImage ? [left, right] : [right, left]
  const [pixels, filters] = leftIsImage ? [m, n] : [n, m]
  const reordered = (name: string, shape: readonly number[], channelsLast: number) =>
    b.once(`rows as channels ${name} ${shape} ${channelsLast}`, () =>
      b.add('ReorderInput', [b.reshape(name, shape)], { channels_last: channelsLast }, BLOCKED_DOMAIN),
    )
  const inputs = [
    reordered(image, [1, rows, 1, pixels], 0),
    b.reshape(reordered(filter, [1, 1, rows, filters], 1), [filters, rows, 1, 1]),
  ]
  const product = b.add('Conv', inputs, UNIT_WINDOW, BLOCKED_DOMAIN)
  const attributes = { channels: filters, channels_last: Number(leftIsImage) }
  return b.reshape(b.add('ReorderOutput', [product], attributes, BLOCKED_DOMAIN), [m, n])
}
