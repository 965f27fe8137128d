/**
 * Plain data parallelism: gradients are summed over the ranks, bucket by bucket, after the pass or while it goes on, and
 * every rank applies the same update to all parameters.
 */
import { add } from '../../collectives/kernels/kernels.js'
import type { BatchInputs } from '../batch.js'
import { averageOverRanks, type Bucket, type GradientExchange } from '../gradient-exchange.js'
import { l2Norm } from '../optimizers/norm.js'
import { partOf, updatable } from '../optimizers/ranges.js'
import type { OverlappedExchange } from '../overlapped-exchange.js'
import { STATS } from '../parameters.js'
import { notFinite, type StepOutcome, type TrainingStep, type Workplace } from './step.js'

/** An exchange for passes in several segments, and in how many; told how long each step took. */
export interface Overlap {
  readonly exchange: OverlappedExchange
  readonly choice: { readonly segments: number; took?(milliseconds: number): Promise<void> }
}

export class AveragedStep implements TrainingStep {
  accumulating = false

  constructor(
    private readonly place: Workplace,
    private readonly exchange: GradientExchange,
    private readonly overlap: Overlap | undefined,
  ) {}

  get state() {
    return this.exchange.state
  }

  async take(number: number, x: BatchInputs, y: BatchInputs): Promise<StepOutcome> {
    const start = performance.now()
    const { links, parameters, passes, observers } = this.place
    const { stats, gradients } = parameters
    // What waits from `accumulate` must be added first.
    const overlapped = this.accumulating || this.overlap?.choice.segments === 1 ? undefined : this.overlap
    let ownLoss: number | undefined
    const pass = await passes.run(
      x,
      y,
      overlapped && {
        segments: overlapped.choice.segments,
        made: (positions) => {
          ownLoss ??= stats[0]! / stats[1]! // before the stats set out
          overlapped.exchange.made(positions)
        },
      },
    )
    ownLoss ??= pass.loss
    const exchange = overlapped?.exchange ?? this.exchange
    if (this.accumulating) add(parameters.reduced, parameters.sums)
    this.accumulating = false
    const ownBad = exchange.needsFinite && !Number.isFinite(l2Norm(gradients))
    if (ownBad) stats[2] = 1
    const averages = averageOverRanks(links, pass.updates, pass.samples)
    // Awaited below; when the gradients fail first, its own failure has nothing to add.
    averages.catch(() => {})
    let result: { loss: number; samples: number } | undefined
    let squares = observers.metrics?.wantsGradientNorm ? 0 : undefined
    const update = this.updatesOf(number, overlapped === undefined)
    for await (const bucket of exchange.sum({ step: number, samples: pass.samples })) {
      if (result === undefined) {
        const [loss, samples, bad] = stats as unknown as [number, number, number]
        if (!Number.isFinite(loss) || bad > 0) break
        result = { loss: loss / samples, samples }
      }
      observers.clock?.mark('exchange')
      if (squares !== undefined) squares += this.sumOfSquares(bucket)
      update(bucket, 1 / result.samples)
      observers.clock?.mark('optimizer')
    }
    const states = await averages
    observers.clock?.mark('exchange')
    if (result === undefined) throw await notFinite(this.place, number, ownLoss, ownBad)
    passes.takeOver(states)
    await this.overlap?.choice.took?.(performance.now() - start)
    return {
      ...result,
      gradientNorm: squares === undefined ? undefined : Math.sqrt(squares) / result.samples,
    }
  }

  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    const { parameters, passes } = this.place
    const { updates, loss } = await passes.run(x, y)
    passes.takeOver(updates)
    if (this.accumulating) add(parameters.sums, parameters.reduced)
    else parameters.sums.set(parameters.reduced)
    this.accumulating = true
    return loss
  }

  reset(): void {
    this.accumulating = false
  }

  /** Of the gradients in a bucket, before an optimizer may change them. */
  private sumOfSquares({ start, end }: Bucket): number {
    return l2Norm(this.place.parameters.gradients.subarray(Math.max(0, start - STATS), end - STATS)) ** 2
  }

  /** What to do with each part of the gradients as it arrives: the next update of as much as is allowed by then. */
  private updatesOf(number: number, inOrder: boolean): (bucket: Bucket, gradScale: number) => void {
    const { parameters, optimizer } = this.place
    const { tensors, trainable, gradients, slots, reduced } = parameters
    const { granularity } = optimizer
    const apply = (from: number, to: number, gradScale: number) => {
      if (to <= from) return
      const whole = { params: trainable, grads: gradients, slots, tensors, step: number, gradScale }
      optimizer.update(partOf(whole, from, to))
    }
    let [arrived, updated] = [0, 0]
    return ({ start, end }, gradScale) => {
      arrived += end - start
      // Buckets out of order hold whole tensors.
      if (granularity === 'element' || (granularity === 'tensor' && !inOrder)) {
        apply(Math.max(0, start - STATS), end - STATS, gradScale)
        return
      }
      const reached = inOrder || arrived === reduced.length ? arrived - STATS : 0
      const to = updatable(granularity, tensors, reached, trainable.length)
      apply(updated, to, gradScale)
      updated = to
    }
  }
}
