/**
 * Plain data parallelism: gradients are summed over the ranks, bucket by bucket, after the pass or while it goes on, and
 * every rank applies the same update to all parameters.
 */
import { add } from '../../collectives/kernels/kernels.js'
import type { BatchInputs } from '../batch.js'
import type { Bucket } from '../buckets.js'
import { averageOverRanks, type GradientExchange } from '../gradient-exchange.js'
import { STATS } from '../layout.js'
import { l2Norm } from '../optimizers/norm.js'
import { partOf, updatable } from '../optimizers/ranges.js'
import { NOT_FINITE } from '../precision/scaled-engine.js'
import { notFinite, type StepOutcome, type TrainingStep, type Workplace } from './step.js'

/** How gradients travel in the next step, the same on every rank; it may change from step to step. */
export interface Choice {
  readonly exchange: GradientExchange
  /** Of the backward pass; 1: the exchange begins after it. */
  readonly segments: number
  /** Is told how long each step took. All ranks must call it together. */
  took?(milliseconds: number): Promise<void>
}

/** All buckets when all are there; none if one is not finite, or a rank has said so: the same on every rank. */
async function* onceFinite(sums: AsyncIterable<Bucket>, buffer: Float32Array): AsyncGenerator<Bucket> {
  const buckets: Bucket[] = []
  for await (const bucket of sums) {
    if (buffer[NOT_FINITE]! > 0 || !Number.isFinite(l2Norm(buffer.subarray(bucket.start, bucket.end)))) return
    buckets.push(bucket)
  }
  yield* buckets
}

export class AveragedStep implements TrainingStep {
  accumulating = false

  constructor(
    private readonly place: Workplace,
    private readonly choice: Choice,
  ) {}

  get state() {
    return this.choice.exchange.state
  }

  async take(number: number, x: BatchInputs, y: BatchInputs): Promise<StepOutcome> {
    const start = performance.now()
    const { links, parameters, passes, observers, lossScale } = this.place
    const { stats } = parameters
    const { exchange, segments } = this.choice
    let own: { readonly loss: number; readonly samples: number } | undefined
    const made = (positions: readonly number[]) => {
      own ??= { loss: stats[0]! / stats[1]!, samples: stats[1]! } // before the stats set out
      exchange.made!(positions, { step: number, samples: own.samples })
    }
    // What waits from `accumulate` must be added first.
    const cuts = segments === 1 || this.accumulating ? [] : (exchange.segments?.(segments) ?? [])
    const early = cuts.length > 1
    const pass = await passes.run(x, y, early ? { segments: cuts, made } : undefined)
    own ??= pass
    if (this.accumulating) add(parameters.reduced, parameters.sums)
    this.accumulating = false
    const averages = averageOverRanks(links, pass.updates, pass.samples)
    // Awaited below; when the gradients fail first, its own failure has nothing to add.
    averages.catch(() => {})
    let result: { loss: number; samples: number } | undefined
    let squares = observers.metrics?.wantsGradientNorm ? 0 : undefined
    const update = this.updatesOf(number, exchange.inOrder)
    const sums = exchange.sum({ step: number, samples: pass.samples })
    // The stats set out before all gradients were seen.
    for await (const bucket of lossScale && early ? onceFinite(sums, parameters.reduced) : sums) {
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
    if (result === undefined && lossScale)
      return { loss: stats[0]! / stats[1]!, samples: stats[1]!, skipped: true }
    if (result === undefined) throw await notFinite(this.place, number, own.loss, exchange.bad)
    passes.takeOver(states)
    await this.choice.took?.(performance.now() - start)
    return {
      ...result,
      gradientNorm: squares === undefined ? undefined : Math.sqrt(squares) / result.samples,
    }
  }

  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    const loss = await this.place.passes.accumulate(x, y, this.accumulating)
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
