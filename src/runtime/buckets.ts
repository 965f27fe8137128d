/**
 * How a buffer of gradients is cut into buckets, and which of them may set out while a backward pass goes on (Li et al.
 * 2020, "PyTorch Distributed", section 3.2). Arithmetic on positions: it sends nothing.
 */
import type { TensorRange } from './optimizers/optimizer.js'

export interface Bucket {
  /** Positions in the buffer, in floats; start inclusive, end exclusive. */
  readonly start: number
  readonly end: number
}

/** A bucket of whole tensors, the padding behind each included. */
export interface TensorBucket extends Bucket {
  /** Of its tensors among all, ascending. */
  readonly positions: readonly number[]
}

/** Cuts `length` floats into buckets of about `bytes` bytes, on 64-byte borders; the last may be smaller. */
export function equalBuckets(length: number, bytes: number): Bucket[] {
  const floats = Math.max(16, Math.floor(bytes / 64) * 16)
  return Array.from({ length: Math.ceil(length / floats) }, (_, i) => ({
    start: i * floats,
    end: Math.min(length, (i + 1) * floats),
  }))
}

/**
 * Buckets of about `bytes` bytes, at least one tensor each, from the last tensor to the first: about the order in which a
 * backward pass makes them.
 * @param tensors what lies from `first` on in a buffer of `length` floats, in ascending order
 */
export function bucketsFromTheEnd(
  tensors: readonly TensorRange[],
  first: number,
  length: number,
  bytes: number,
): TensorBucket[] {
  const runs: number[][] = []
  let room = 0
  for (let i = tensors.length - 1; i >= 0; i--) {
    const floats = tensors[i]!.end - tensors[i]!.start
    if (runs.length === 0 || floats > room) {
      runs.push([])
      room = bytes / 4
    }
    runs.at(-1)!.unshift(i)
    room -= floats
  }
  return runs.map((positions) => ({
    positions,
    start: first + tensors[positions[0]!]!.start,
    end: tensors[positions.at(-1)! + 1] ? first + tensors[positions.at(-1)! + 1]!.start : length,
  }))
}

/**
 * What segments of a backward pass should make, so that each but the last fills buckets to their borders: positions of tensors,
 * of consecutive buckets with about as many floats as any other's. Up to `count`, as far as there are buckets.
 */
export function segmentsOf(buckets: readonly TensorBucket[], count: number): number[][] {
  const total = buckets.reduce((sum, { start, end }) => sum + end - start, 0)
  const segments: number[][] = [[]]
  let floats = 0
  for (const [i, { start, end, positions }] of buckets.entries()) {
    segments.at(-1)!.push(...positions)
    floats += end - start
    const next = buckets[i + 1]
    // Here or behind the next, whichever is nearer to an equal share.
    const share = (segments.length * total) / count
    if (next && segments.length < count && floats + (next.end - next.start) / 2 >= share) segments.push([])
  }
  return segments
}

/** Which buckets wait for which tensors in the present pass. */
export class Awaited {
  private readonly missing: readonly Set<number>[]

  constructor(buckets: readonly TensorBucket[]) {
    this.missing = buckets.map(({ positions }) => new Set(positions))
  }

  /** These tensors are there. @returns whether all of the bucket is. */
  made(positions: readonly number[]): void {
    for (const missing of this.missing) for (const position of positions) missing.delete(position)
  }

  isComplete(bucket: number): boolean {
    return this.missing[bucket]!.size === 0
  }
}
