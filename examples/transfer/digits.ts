/** Digits of some classes only, out of any set of digits. */
import type { Dataset, ImageDataset } from 'lockstep'

/** The digits from `first` to `last`, labelled from 0 on; at most `most` of them. */
export function digitsOf(
  digits: ImageDataset,
  first: number,
  last: number,
  most = Number.POSITIVE_INFINITY,
): Dataset {
  const labels = Array.from({ length: digits.length }, (_, index) => digits.batch([index]).y.data[0]!)
  const fitting = labels.flatMap((label, index) => (label >= first && label <= last ? [index] : []))
  const chosen = fitting.slice(0, most)
  return {
    length: chosen.length,
    batch(indices) {
      const { x, y } = digits.batch(Array.from(indices, (index) => chosen[index]!))
      return { x, y: { shape: y.shape, data: Int32Array.from(y.data, (label) => label - first) } }
    },
  }
}
