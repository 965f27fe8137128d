/**
 * Local SGD (Stich 2019; Lin et al. 2020, "Don't Use Large Mini-Batches, Use Local SGD"): each rank takes its own optimizer
 * steps, and the ranks' parameters are averaged after every so many, which makes a round. With an outer optimizer it is DiLoCo
 * (Douillard et al. 2023): the mean of what the ranks have moved by is a gradient to it, taken from where the round began.
 *
 * Ranks differ within a round. Where a round ends all hold the same bits: what the outer optimizer makes of one and the same
 * sum. Plain averaging is the outer optimizer SGD with rate 1.
 */
import { add } from '../../collectives/kernels/kernels.js'
import type { Update } from '../../compiler/program.js'
import type { BatchInputs } from '../batch.js'
import { averageOverRanks, type GradientExchange } from '../gradient-exchange.js'
import type { LocalSteps } from '../local-steps.js'
import { sgd } from '../optimizers/index.js'
import type { UpdateArgs } from '../optimizers/optimizer.js'
import type { AveragedStep } from './averaged.js'
import { notFinite, type StepOutcome, type TrainingStep, type Workplace } from './step.js'

export class LocalStep implements TrainingStep {
  accumulating = false
  /** Parameters at the beginning of the round; undefined: all ranks hold the same, no round has begun. */
  private anchor: Float32Array | undefined
  /** Of this rank, while it holds all ranks' mean. */
  private own: Float32Array | undefined
  /** The first loss of the round that was not finite. */
  private bad: number | undefined
  /** Moving averages as the latest pass has left them. */
  private updates: readonly Update[] = []

  /**
   * @param warmUp takes the first steps, if gradients are averaged in some
   * @param exchange of what ranks have moved by
   */
  constructor(
    private readonly place: Workplace,
    private readonly local: LocalSteps,
    private readonly warmUp: AveragedStep | undefined,
    private readonly exchange: GradientExchange,
  ) {}

  /** Each rank's own inner optimizer state, besides what exchanges remember. */
  get state() {
    const { parameters, optimizer } = this.place
    const slots = parameters.slots.slice(0, this.innerSlots).map((data, i) => ({
      ...{ name: `local/${optimizer.slots[i]}`, shape: [data.length], data },
    }))
    const outer = this.exchange.state.map((tensor) => ({ ...tensor, name: `round/${tensor.name}` }))
    return [...slots, ...outer, ...(this.warmUp?.state ?? [])]
  }

  /** In between a round's steps, loss and samples are this rank's; at its end those of all ranks' last batches. */
  async take(number: number, x: BatchInputs, y: BatchInputs): Promise<StepOutcome> {
    const { every, warmUp = 0 } = this.local
    if (this.warmUp && number <= warmUp) {
      this.warmUp.accumulating = this.accumulating // in buffers that both use
      this.accumulating = false
      return this.warmUp.take(number, x, y)
    }
    const { parameters, passes, observers, optimizer } = this.place
    const { stats, trainable, reduced, sums } = parameters
    this.resume()
    this.anchor ??= trainable.slice()
    const pass = await passes.run(x, y)
    if (this.accumulating) add(reduced, sums)
    this.accumulating = false
    passes.takeOver(pass.updates)
    this.updates = pass.updates
    const [loss, samples] = stats as unknown as [number, number]
    // It must not leave the round: the others would wait for it.
    if (Number.isFinite(loss)) optimizer.update({ ...this.whole(number), gradScale: 1 / samples })
    else this.bad ??= pass.loss
    observers.clock?.mark('optimizer')
    if ((number - warmUp) % every > 0) return { loss: loss / samples, samples }
    return this.endRound(number)
  }

  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    this.resume()
    const loss = await this.place.passes.accumulate(x, y, this.accumulating)
    this.accumulating = true
    return loss
  }

  /** Gives every rank the mean of all ranks' parameters, until its next step goes on from its own. */
  async gather(): Promise<void> {
    const { parameters, links } = this.place
    if (this.anchor === undefined || this.own !== undefined || links.size === 1) return
    this.own = parameters.values.slice()
    await links.allReduce(parameters.values, 'mean')
  }

  /** Ends the round before its time, after step `number`. */
  async settle(number: number): Promise<void> {
    this.resume()
    if (this.anchor === undefined) return
    this.place.parameters.stats.fill(0)
    await this.endRound(number)
  }

  reset(): void {
    this.accumulating = false
    this.anchor = undefined
    this.own = undefined
    this.bad = undefined
    this.warmUp?.reset()
  }

  private resume(): void {
    if (this.own) this.place.parameters.values.set(this.own)
    this.own = undefined
  }

  private async endRound(number: number): Promise<StepOutcome> {
    const { links, parameters, passes, observers, optimizer } = this.place
    const { stats, trainable, gradients, slots } = parameters
    const { every, warmUp = 0, outer = sgd(1) } = this.local
    const anchor = this.anchor!
    const bad = this.bad
    for (let i = 0; i < anchor.length; i++) gradients[i] = anchor[i]! - trainable[i]!
    stats[2] = Number(bad !== undefined)
    const round = Math.ceil((number - warmUp) / every)
    const averages = averageOverRanks(links, this.updates, stats[1]!)
    averages.catch(() => {}) // awaited below, unless the exchange fails first
    let result: StepOutcome | undefined
    for await (const _ of this.exchange.sum({ step: round, samples: 1 })) {
      if (stats[2]! > 0) break
      result ??= { loss: stats[0]! / stats[1]!, samples: stats[1]! }
    }
    const states = await averages
    observers.clock?.mark('exchange')
    trainable.set(anchor)
    this.anchor = undefined
    this.bad = undefined
    if (result === undefined) {
      const since = `as before this round of ${every} local steps`
      throw await notFinite(this.place, number, bad ?? 0, this.exchange.bad, since)
    }
    passes.takeOver(states)
    const own = slots.slice(this.innerSlots, optimizer.slots.length)
    outer.update({ ...this.whole(round), slots: own, gradScale: 1 / links.size })
    observers.clock?.mark('optimizer')
    return result
  }

  private get innerSlots(): number {
    return this.place.optimizer.slots.length - (this.local.outer?.slots.length ?? 0)
  }

  private whole(step: number): UpdateArgs {
    const { trainable: params, gradients: grads, slots, tensors } = this.place.parameters
    return { params, grads, slots, tensors, step, gradScale: 1 }
  }
}
