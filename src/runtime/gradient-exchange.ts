/**
 * Sums a flat buffer over all ranks, bucket by bucket, so that the first buckets can be used while later ones are
 * still on the wire (Li et al. 2020, "PyTorch Distributed", section 3.2.2). It does not know what the numbers mean.
 */
import type { Communicator } from '../collectives/communicator.js'
import type { Moment } from '../collectives/compression/compressor.js'
import type { Update } from '../compiler/program.js'
import type { NamedTensor } from './checkpoint/safetensors.js'

/**
 * The mean over all ranks' samples of values that change without a gradient, such as batch norm's moving averages:
 * every rank weighs its own by `samples`. All ranks then hold the same, where PyTorch DDP takes rank 0's.
 */
export async function averageOverRanks(
  links: Communicator,
  updates: readonly Update[],
  samples: number,
): Promise<readonly Update[]> {
  if (links.size === 1 || updates.length === 0) return updates
  const sums = Float64Array.from([
    samples,
    ...updates.flatMap(({ value }) => Array.from(value, (n) => n * samples)),
  ])
  await links.allReduce(sums, 'sum')
  let at = 1
  return updates.map(({ param, value }) => {
    const mean = Float32Array.from(sums.subarray(at, at + value.length), (sum) => sum / sums[0]!)
    at += value.length
    return { param, value: mean }
  })
}

export interface Bucket {
  /** Positions in the buffer, in floats; start inclusive, end exclusive. */
  readonly start: number
  readonly end: number
}

/** Cuts `length` floats into buckets of about `bytes` bytes, on 64-byte borders; the last may be smaller. */
function bucketsOf(length: number, bytes: number): Bucket[] {
  const floats = Math.max(16, Math.floor(bytes / 64) * 16)
  return Array.from({ length: Math.ceil(length / floats) }, (_, i) => ({
    start: i * floats,
    end: Math.min(length, (i + 1) * floats),
  }))
}

/** How the ranks' gradients become their sum. */
export interface GradientExchange {
  /** What this rank must remember to go on just so: part of a checkpoint, and another on every rank. */
  readonly state: readonly NamedTensor[]
  /** Whether a NaN would be remembered, so that a step with one must not be begun. */
  readonly needsFinite: boolean
  /**
   * Sums the buffer over all ranks and yields its parts as they are done, in order. Those not yet yielded must be left
   * alone until then. Whoever stops early may use the links again once the generator has returned.
   */
  sum(moment: Moment): AsyncGenerator<Bucket>
}

/** All-reduces of all buckets at once. */
export class ExactExchange implements GradientExchange {
  readonly state = []
  readonly needsFinite = false
  private readonly buckets: readonly Bucket[]

  constructor(
    private readonly links: Communicator,
    private readonly buffer: Float32Array,
    bucketBytes: number,
  ) {
    this.buckets = bucketsOf(buffer.length, bucketBytes)
  }

  async *sum(): AsyncGenerator<Bucket> {
    const { links, buffer, buckets } = this
    if (links.size === 1) {
      yield* buckets
      return
    }
    const sums = buckets.map(({ start, end }) => links.allReduce(buffer.subarray(start, end), 'sum'))
    // A failure rejects all of them; the first is thrown below, the others must not count as unhandled.
    for (const sum of sums) sum.catch(() => {})
    try {
      for (const [i, bucket] of buckets.entries()) {
        await sums[i]
        yield bucket
      }
    } finally {
      await Promise.allSettled(sums)
    }
  }
}
