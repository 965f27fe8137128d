/**
 * All-reduces that may begin while the backward pass still computes (Li et al. 2020, section 3.2.3): buckets of whole tensors
 * from the last of the model to the first, each begun once all of it is there and those before it have begun. The order is
 * the same on every rank, whatever the passes make first. It does not know what the numbers mean.
 */
import type { Communicator } from '../collectives/communicator.js'
import { Awaited, type Bucket, bucketsFromTheEnd, segmentsOf, type TensorBucket } from './buckets.js'
import { everybody, type GradientExchange } from './gradient-exchange.js'
import type { TensorRange } from './optimizers/optimizer.js'

export class OverlappedExchange implements GradientExchange {
  readonly state = []
  readonly bad = false
  readonly inOrder = false
  private readonly buckets: readonly TensorBucket[]
  /** For the stats: one rank may send them during its pass and another after it, and calls on the same links keep one order. */
  private readonly aside: Communicator
  /**
   * For buckets: in this thread a small one would wait for the other ranks' until its segment is computed, and so would the
   * large ones behind it.
   */
  private readonly background: Communicator
  private awaited: Awaited
  private stats: Promise<void> | undefined
  private sums: Promise<void>[] = []

  /**
   * @param buffer stats, then gradients from `statsLength` on
   * @param tensors what lies in the gradients, in ascending order
   */
  constructor(
    links: Communicator,
    private readonly buffer: Float32Array,
    private readonly statsLength: number,
    tensors: readonly TensorRange[],
    bucketBytes: number,
  ) {
    this.buckets = bucketsFromTheEnd(tensors, statsLength, buffer.length, bucketBytes)
    this.aside = everybody(links)
    this.background = everybody(links, { background: true })
    this.awaited = new Awaited(this.buckets)
  }

  segments(count: number): number[][] {
    return segmentsOf(this.buckets, count)
  }

  /** The stats are there, too. */
  made(positions: readonly number[]): void {
    this.awaited.made(positions)
    this.beginStats()
    while (this.sums.length < this.buckets.length && this.awaited.isComplete(this.sums.length)) this.begin()
  }

  /** Yields in the order in which they were begun, the stats first. */
  async *sum(): AsyncGenerator<Bucket> {
    const stats = this.beginStats()
    while (this.sums.length < this.buckets.length) this.begin()
    const { sums } = this
    this.sums = []
    this.stats = undefined
    this.awaited = new Awaited(this.buckets)
    try {
      await stats
      yield { start: 0, end: this.statsLength }
      for (const [i, { start, end }] of this.buckets.entries()) {
        await sums[i]
        yield { start, end }
      }
    } finally {
      await Promise.allSettled([stats, ...sums])
    }
  }

  private beginStats(): Promise<void> {
    this.stats ??= this.aside.allReduce(this.buffer.subarray(0, this.statsLength), 'sum')
    this.stats.catch(() => {}) // thrown by sum()
    return this.stats
  }

  private begin(): void {
    const { start, end } = this.buckets[this.sums.length]!
    const sum = this.background.allReduce(this.buffer.subarray(start, end), 'sum')
    sum.catch(() => {})
    this.sums.push(sum)
  }
}
