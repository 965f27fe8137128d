/**
 * All-reduces that begin while the backward pass still computes (Li et al. 2020, section 3.2.3): buckets of whole tensors
 * from the last of the model to the first, as they are made, each begun once all of it is there. The order is the same on
 * every rank, whatever the passes make first. It does not know what the numbers mean.
 */
import type { Communicator } from '../collectives/communicator.js'
import type { Bucket, GradientExchange } from './gradient-exchange.js'
import type { TensorRange } from './optimizers/optimizer.js'

interface Awaited extends Bucket {
  /** Positions of the tensors in it that are not there yet. */
  readonly missing: Set<number>
}

export class OverlappedExchange implements GradientExchange {
  readonly state = []
  readonly needsFinite = false
  private readonly plan: readonly { readonly range: Bucket; readonly tensors: readonly number[] }[]
  private awaited: Awaited[] = []
  private begun: { readonly range: Bucket; readonly sum: Promise<void> }[] = []

  /**
   * @param buffer stats, then gradients from `stats` on
   * @param tensors what lies in the gradients, in ascending order
   */
  constructor(
    private readonly links: Communicator,
    private readonly buffer: Float32Array,
    stats: number,
    tensors: readonly TensorRange[],
    bucketBytes: number,
  ) {
    this.plan = [
      { range: { start: 0, end: stats }, tensors: [] },
      ...fromTheEnd(tensors, bucketBytes / 4).map((run) => ({
        // Up to the next tensor: the padding goes along.
        range: {
          start: stats + tensors[run[0]!]!.start,
          end: stats + (tensors[run.at(-1)! + 1]?.start ?? buffer.length - stats),
        },
        tensors: run,
      })),
    ]
    this.restart()
  }

  /** Gradients of the tensors at `positions` are in the buffer, and the stats: what is complete sets out. */
  made(positions: readonly number[]): void {
    for (const { missing } of this.awaited) for (const position of positions) missing.delete(position)
    while (this.awaited[0]?.missing.size === 0) this.begin(this.awaited.shift()!)
  }

  /** Yields in the order of the plan, the stats first. */
  async *sum(): AsyncGenerator<Bucket> {
    for (const bucket of this.awaited) this.begin(bucket)
    const { begun } = this
    this.restart()
    try {
      for (const { range, sum } of begun) {
        await sum
        yield range
      }
    } finally {
      await Promise.allSettled(begun.map(({ sum }) => sum))
    }
  }

  private begin({ start, end }: Bucket): void {
    const sum = this.links.allReduce(this.buffer.subarray(start, end), 'sum')
    sum.catch(() => {}) // thrown by sum()
    this.begun.push({ range: { start, end }, sum })
  }

  private restart(): void {
    this.begun = []
    this.awaited = this.plan.map(({ range, tensors }) => ({ ...range, missing: new Set(tensors) }))
  }
}

/** Positions of the tensors in runs of about `elements`, the last run first; positions ascend within a run. */
function fromTheEnd(tensors: readonly TensorRange[], elements: number): number[][] {
  const runs: number[][] = []
  let room = 0
  for (let i = tensors.length - 1; i >= 0; i--) {
    const length = tensors[i]!.end - tensors[i]!.start
    if (runs.length === 0 || length > room) {
      runs.push([])
      room = elements
    }
    runs.at(-1)!.unshift(i)
    room -= length
  }
  return runs
}
