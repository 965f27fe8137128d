/**
 * The half of a training step that follows the pass, sharded (Rajbhandari et al. 2020, "ZeRO"): every rank gets the sum of
 * its parts of the gradients, updates its parts of the parameters with its parts of the optimizer's state, and, unless those
 * stay spread too, gathers all others'. In bytes an all-reduce, whose two halves these are.
 *
 * From level 2 on gradients are reduced unit by unit while the pass goes on, from the last unit to the first, whatever the
 * pass makes first: all ranks must reduce in one order.
 */
import type { Communicator } from '../../collectives/communicator.js'
import { add } from '../../collectives/kernels/kernels.js'
import type { Optimizer } from '../optimizers/optimizer.js'
import type { Parameters } from '../parameters.js'
import { NOT_FINITE } from '../precision/scaled-engine.js'
import type { Sharding, Working } from './level.js'
import { Part } from './part.js'
import { ownPart } from './units.js'

/** What multiplies gradients still. */
interface Scaled {
  readonly gradientScale: number
}

export class ShardedStep {
  /** From level 2 on: which gradients a pass shall make together, one unit after the other. */
  readonly order: readonly (readonly number[])[] | undefined
  private readonly parts: readonly Part[]
  /** Of the present pass, in the order of `order`. */
  private reducing: Promise<void>[] = []
  /** The stats of earlier passes whose gradients wait in the sums; undefined: there are none. */
  private waiting: Float32Array | undefined

  constructor(
    private readonly links: Communicator,
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
    private readonly sharding: Sharding,
    /** Groups whose ranks hold other parts of the model. */
    private readonly others: readonly Communicator[] = [],
    /** Where there is a loss scale. */
    private readonly scaled?: Scaled,
  ) {
    const { units } = parameters
    this.parts = units.map((_, i) => Part.of(parameters, i))
    this.order = sharding.level < 2 ? undefined : units.map(({ tensors }) => tensors).toReversed()
  }

  /** A pass begins; what an earlier one that failed has left is over. */
  async begin(): Promise<void> {
    await Promise.allSettled(this.reducing)
    this.reducing = []
  }

  /** The next unit's gradients are in the buffer. Settles when the unit after it may be written. */
  async made(): Promise<void> {
    const turn = this.reducing.length
    const reducing = this.reduceTurn(turn)
    reducing.catch(() => {}) // thrown below, or by step()
    this.reducing.push(reducing)
    await this.reducing[turn + 1 - this.sharding.turns]
  }

  /** From level 2 on: keeps what the pass has made for the next `step`. */
  async accumulate(): Promise<void> {
    await Promise.all(this.reducing)
    const more = this.waiting !== undefined
    for (const part of this.parts) part.keep(more)
    const stats = this.stats()
    if (this.overflows()) stats[NOT_FINITE] = 1
    this.waiting = stats
  }

  /** The optimizer's step number `step`; refused, with nothing changed, when the sum of losses or a gradient is not finite. */
  async step(
    step: number,
    mark: (phase: 'exchange' | 'optimizer') => void,
  ): Promise<{ readonly loss: number; readonly samples: number; readonly refused: boolean }> {
    const { links, sharding, optimizer } = this
    const stats = this.stats()
    // 16 bits need not hold the sum of what ranks have found to be finite: all must hear of it.
    const late = this.scaled !== undefined && sharding.half !== undefined
    const summing = late ? undefined : links.allReduce(stats)
    summing?.catch(() => {}) // thrown below
    if (sharding.level < 2) this.reducing = this.parts.map(({ made, grads }) => this.reduce(made, grads))
    const sums = sharding.level < 2 ? this.reducing : this.reducing.toReversed()
    for (const sum of sums) sum.catch(() => {}) // thrown below
    try {
      if (late) {
        await Promise.all(sums)
        if (this.overflows()) stats[NOT_FINITE] = 1
      }
      await (summing ?? links.allReduce(stats))
      const [sum, samples, bad] = stats as unknown as [number, number, number]
      const loss = sum / samples
      if (!Number.isFinite(sum) || bad > 0) return { loss, samples, refused: true }
      const gradNorm = optimizer.granularity === 'model' ? await this.gradientNorm() : undefined
      const gathering: Promise<unknown>[] = []
      const gradScale = 1 / (samples * (this.scaled?.gradientScale ?? 1))
      for (const [i, part] of this.parts.entries()) {
        await sums[i]
        mark('exchange')
        part.update(optimizer, { step, gradScale, gradNorm })
        mark('optimizer')
        if (part.whole) gathering.push(links.allGather(part.own!, undefined, part.whole))
      }
      await Promise.all(gathering)
      mark('exchange')
      return { loss, samples, refused: false }
    } finally {
      await Promise.allSettled(this.reducing)
      this.waiting = undefined
    }
  }

  /** Parameters are others now: forgets what waits from `accumulate`, and gives passes what they read. */
  async reset(): Promise<void> {
    this.waiting = undefined
    if (this.sharding.half === undefined) return
    for (const part of this.parts) {
      part.round()
      if (part.whole) await this.links.allGather(part.own!, undefined, part.whole)
    }
  }

  /** Of this pass and those that wait. */
  private stats(): Float32Array {
    const stats = this.parameters.stats.slice()
    if (this.waiting) add(stats, this.waiting)
    return stats
  }

  private async reduce(made: Working, into: Working): Promise<void> {
    await this.links.reduceScatter(made, 'sum', into)
  }

  private async reduceTurn(turn: number): Promise<void> {
    const { links, parts } = this
    const part = parts[parts.length - 1 - turn]!
    const { made, unit } = part
    this.clearPadding(part)
    const own = ownPart({ ...unit, start: 0, end: made.length }, links.rank, links.size)
    const sum = made.subarray(own.start, own.end)
    const later = this.waiting !== undefined
    await this.reduce(made, sum)
    part.take(sum, later)
  }

  /** Other units, whose turn it was before, have left theirs there. */
  private clearPadding({ unit: { start, end, tensors }, made }: Part): void {
    for (const [i, position] of tensors.entries()) {
      const next = tensors[i + 1]
      const border = next === undefined ? end : this.parameters.tensors[next]!.start
      made.fill(0, this.parameters.tensors[position]!.end - start, border - start)
    }
  }

  /** Whether this rank's parts of the sums are more than 16 bits hold; where nobody scales, that is for the loss to show. */
  private overflows(): boolean {
    return this.scaled !== undefined && this.parts.some((part) => !part.isFinite)
  }

  /** Of the whole model's gradients, from every rank's parts of them: the same on all ranks. */
  private async gradientNorm(): Promise<number> {
    await Promise.all(this.reducing)
    const squares = Float64Array.of(this.parts.reduce((sum, part) => sum + part.sumOfSquares(), 0))
    for (const links of [this.links, ...this.others]) await links.allReduce(squares)
    return Math.sqrt(squares[0]!)
  }
}
