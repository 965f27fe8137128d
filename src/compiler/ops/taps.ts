/** What each tap of a filter (place in the window) sees of an image: the filter's gradient is made of these. */
import type { Builder, Layout } from '../builder.js'
import type { Value } from '../graph.js'
import { type Sliding, tapsOf } from './window.js'

/** For each tap the pixels of x that it is multiplied with, in x's layout `layout` with the positions as its pixels. */
export function tapSlices(b: Builder, x: Value, { window, positions }: Sliding, layout: Layout): string[] {
  const { pads, strides } = window
  const first = layout === 'plain' ? 1 : 2
  const axes = b.ints(strides.map((_, i) => i + first))
  const [before, after] = { plain: [1, 1], nchw: [2, 0], blocked: [2, 1] }[layout]
  const zeros = (count: number) => Array<number>(count).fill(0)
  const around = (pixels: readonly number[]) => [...zeros(before!), ...pixels, ...zeros(after!)]
  const padded = [...around(pads.slice(0, strides.length)), ...around(pads.slice(strides.length))]
  const name = b.as(x, layout)
  const image = pads.every((n) => n === 0)
    ? name
    : b.once(`pad ${name} ${padded}`, () => b.add('Pad', [name, b.ints(padded)]))
  return tapsOf(window).map((starts) => {
    const ends = starts.map((start, i) => start + (positions[i]! - 1) * strides[i]! + 1)
    return b.add('Slice', [image, b.ints(starts), b.ints(ends), axes, b.ints(strides)])
  })
}
