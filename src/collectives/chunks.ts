/**
 * How an array is cut: into one chunk per rank, and a chunk into blocks that travel as one frame each.
 * Pure arithmetic on element indices.
 */

/** Elements from `start` up to, not including, `end`. */
export interface Range {
  readonly start: number
  readonly end: number
}

/** Chunk `index` of `count` elements cut into `size` chunks, whose lengths differ by at most one. */
export function chunkOf(count: number, size: number, index: number): Range {
  return { start: Math.floor((count * index) / size), end: Math.floor((count * (index + 1)) / size) }
}

/** A chunk's blocks of up to `most` elements. An empty chunk is one empty block: its frame is still awaited. */
export function blocksOf({ start, end }: Range, most: number): Range[] {
  const blocks: Range[] = []
  let at = start
  do {
    const next = Math.min(at + most, end)
    blocks.push({ start: at, end: next })
    at = next
  } while (at < end)
  return blocks
}

/** `value` in 0 … `size` - 1, for negative values too. */
export function modulo(value: number, size: number): number {
  return ((value % size) + size) % size
}
