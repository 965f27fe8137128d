/** Forward and backward passes of this rank: a batch in, sums of gradients in the buffer out. They exchange nothing. */
import { add } from '../../collectives/kernels/kernels.js'
import type { Update } from '../../compiler/program.js'
import type { RankMetrics } from '../../observe/metrics.js'
import { type BatchInputs, readBatch } from '../batch.js'
import type { Engine, GradientWatch } from '../engines/engine.js'
import type { Model } from '../model.js'
import type { Parameters } from '../parameters.js'
import type { StepClock } from '../step-clock.js'
import type { StepLane } from '../timeline.js'

/** What one pass leaves besides gradients. */
export interface Pass {
  /** New values of batch norm's moving averages and the like. */
  readonly updates: readonly Update[]
  /** Mean over this rank's samples; what the stats say, which a watcher may have given away by now. */
  readonly loss: number
  readonly samples: number
}

/** All undefined, and without cost, unless somebody asked for them. */
export interface Observers {
  readonly clock: StepClock | undefined
  readonly metrics: RankMetrics | undefined
  readonly lane: StepLane | undefined
}

export class Passes {
  /** So far: with the seed and the rank, the state of all randomness. */
  count = 0
  /** Of frozen parameters, in the order that programs number them, after the trainable ones. */
  private readonly frozen: readonly Float32Array[]

  constructor(
    private readonly computing: Engine,
    private readonly model: Model,
    private readonly parameters: Parameters,
    private readonly seed: number,
    private readonly rank: number,
    private readonly observers: Observers,
  ) {
    this.frozen = parameters.frozenViews()
  }

  /** Fills the gradient buffer with sums over this rank's samples, and the stats with their loss and number. */
  async run(x: BatchInputs, y: BatchInputs, watch?: GradientWatch): Promise<Pass> {
    const { clock, metrics } = this.observers
    const { stats } = this.parameters
    const [features, labels] = readBatch(this.model, x, y)
    const samples = features[0]!.spec.shape[0]!
    const key = [this.seed, this.rank, this.count++]
    clock?.mark('between steps (data)')
    stats.fill(0)
    stats[1] = samples
    const updates = await this.computing.train(features, labels, samples, key, watch && this.noting(watch))
    clock?.mark('forward and backward')
    metrics?.pass(samples)
    return { updates, loss: stats[0]! / samples, samples }
  }

  /** A pass whose gradients are kept in the sums, beside those that wait there. @returns its mean loss */
  async accumulate(x: BatchInputs, y: BatchInputs, waiting: boolean): Promise<number> {
    const { updates, loss } = await this.run(x, y)
    this.takeOver(updates)
    const { sums, reduced } = this.parameters
    if (waiting) add(sums, reduced)
    else sums.set(reduced)
    return loss
  }

  /** Makes what a pass has left, or its mean over the ranks, the values of frozen parameters. */
  takeOver(updates: readonly Update[]): void {
    const first = this.parameters.tensors.length
    for (const { param, value } of updates) this.frozen[param - first]!.set(value)
  }

  /** In the timeline, too. */
  private noting({ segments, made }: GradientWatch): GradientWatch {
    const noted = (positions: readonly number[]) => {
      this.observers.lane?.endSegment(positions.length)
      return made(positions)
    }
    return { segments, made: noted }
  }
}
