/**
 * Sums a flat buffer over all ranks, bucket by bucket, so that the first buckets can be used while later ones are
 * still on the wire. It does not know what the numbers mean.
 */
import type { Communicator, GroupOptions } from '../collectives/communicator.js'
import type { Moment } from '../collectives/compression/compressor.js'
import type { Update } from '../compiler/program.js'
import { type Bucket, equalBuckets } from './buckets.js'
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

/** How the ranks' gradients become their sum. */
export interface GradientExchange {
  /** What this rank must remember to go on just so: part of a checkpoint, and another on every rank. */
  readonly state: readonly NamedTensor[]
  /** Whether this rank's gradients were not finite in the latest sum; false where nobody looks, as nothing is remembered. */
  readonly bad: boolean
  /** Whether buckets come in ascending order. If not, each but the stats holds whole tensors. */
  readonly inOrder: boolean
  /**
   * One that can begin during a pass: gradients of the tensors at `positions` are in the buffer for good, and so are the
   * stats. What is complete sets out.
   */
  made?(positions: readonly number[], moment: Moment): void
  /** For `made`: the positions of the tensors that each of up to `count` segments of a pass should make, so that buckets can set out. */
  segments?(count: number): readonly (readonly number[])[]
  /**
   * Sums the buffer over all ranks and yields its parts as they are done, the stats first. Those not yet yielded must be left
   * alone until then. Whoever stops after the stats gets everything remembered back as it was before this step, and may use
   * the links again once the generator has returned.
   */
  sum(moment: Moment): AsyncGenerator<Bucket>
}

/** All of these ranks as a group, whose calls wait for no others and no others for them. */
export const everybody = (links: Communicator, options: GroupOptions = {}): Communicator =>
  links.group(
    Array.from({ length: links.size }, (_, rank) => rank),
    options,
  )

/** All-reduces of all buckets at once. */
export class ExactExchange implements GradientExchange {
  readonly state = []
  readonly bad = false
  readonly inOrder = true
  private readonly buckets: readonly Bucket[]

  constructor(
    private readonly links: Communicator,
    private readonly buffer: Float32Array,
    bucketBytes: number,
  ) {
    this.buckets = equalBuckets(buffer.length, bucketBytes)
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
