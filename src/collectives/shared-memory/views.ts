/**
 * Typed views at places in a memory, and the cutting of work: pure.
 */
import { ARRAYS, type Dtype } from '../call.js'
import { chunkOf, type Range } from '../chunks.js'
import type { Numbers } from '../communicator.js'

/** `count` elements from byte `offset` on. */
export function numbersAt(dtype: Dtype, buffer: ArrayBuffer, offset: number, count: number): Numbers {
  return new ARRAYS[dtype](buffer, offset, count)
}

/** Elements of the smallest dtype on two cache lines, which the processor fetches as one. */
const GRAIN = 128

/**
 * What rank `rank` reduces of `count` elements: slices that differ by at most a grain and begin on one, so that no
 * two ranks write to the same cache line.
 */
export function sliceOf(count: number, size: number, rank: number): Range {
  const { start, end } = chunkOf(Math.ceil(count / GRAIN), size, rank)
  return { start: Math.min(start * GRAIN, count), end: Math.min(end * GRAIN, count) }
}

/** Ranges of up to `most` elements that cover `count`; one empty range for none, as every operation has a sync. */
export function piecesOf(count: number, most: number): Range[] {
  const pieces: Range[] = [{ start: 0, end: Math.min(most, count) }]
  for (let start = most; start < count; start += most)
    pieces.push({ start, end: Math.min(start + most, count) })
  return pieces
}
