/** ZeRO: ranks share the optimizer's state, gradients or parameters among them (zero/sharded-step.ts does the sharing). */
import { add } from '../../collectives/kernels/kernels.js'
import type { BatchInputs } from '../batch.js'
import { averageOverRanks } from '../gradient-exchange.js'
import { STATS } from '../layout.js'
import type { ScaledEngine } from '../precision/scaled-engine.js'
import type { Sharding } from '../zero/level.js'
import { addTo, narrow, widen } from '../zero/part.js'
import { ShardedStep } from '../zero/sharded-step.js'
import type { Pass } from './passes.js'
import { notFinite, type StepOutcome, type TrainingStep, type Workplace } from './step.js'

export class ZeroStep implements TrainingStep {
  accumulating = false
  readonly state = []
  private readonly sharded: ShardedStep

  constructor(
    private readonly place: Workplace,
    sharding: Sharding,
    scaled: ScaledEngine | undefined,
  ) {
    const { links, parameters, optimizer } = place
    this.sharded = new ShardedStep(links, parameters, optimizer, sharding, [], scaled)
  }

  async take(number: number, x: BatchInputs, y: BatchInputs): Promise<StepOutcome> {
    const { links, passes, observers } = this.place
    const { updates, loss, samples } = await this.pass(x, y)
    if (this.accumulating && !this.sharded.order) this.addKept()
    this.accumulating = false
    const averages = averageOverRanks(links, updates, samples)
    averages.catch(() => {}) // awaited below, unless the gradients fail first
    const { refused, ...result } = await this.sharded.step(number, (phase) => observers.clock?.mark(phase))
    const states = await averages
    if (refused && this.place.lossScale) return { ...result, skipped: true }
    if (refused) throw await notFinite(this.place, number, loss)
    passes.takeOver(states)
    return result
  }

  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    const { passes } = this.place
    const { updates, loss } = await this.pass(x, y)
    passes.takeOver(updates)
    if (this.sharded.order) await this.sharded.accumulate()
    else this.keep()
    this.accumulating = true
    return loss
  }

  async reset(): Promise<void> {
    this.accumulating = false
    await this.sharded.reset()
  }

  /** Stats and whole gradients of a pass, beside those that wait. */
  private keep(): void {
    const { sums, stats, passGradients } = this.place.parameters
    const [first, rest] = [sums.subarray(0, STATS), sums.subarray(STATS)]
    if (this.accumulating) {
      add(first, stats)
      addTo(rest, passGradients)
    } else {
      first.set(stats)
      widen(rest, passGradients)
    }
  }

  private addKept(): void {
    const { sums, stats, passGradients } = this.place.parameters
    const rest = sums.subarray(STATS)
    add(stats, sums.subarray(0, STATS))
    addTo(rest, passGradients)
    narrow(passGradients, rest)
  }

  private async pass(x: BatchInputs, y: BatchInputs): Promise<Pass> {
    const { sharded } = this
    await sharded.begin()
    const made = (positions: readonly number[]) => {
      if (positions.length > 0) return sharded.made()
      return undefined // part of a forward pass
    }
    return this.place.passes.run(x, y, sharded.order && { segments: sharded.order, made })
  }
}
