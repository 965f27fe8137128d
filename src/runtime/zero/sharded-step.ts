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
import { l2Norm } from '../optimizers/norm.js'
import type { Optimizer, TensorRange } from '../optimizers/optimizer.js'
import { cut } from '../optimizers/ranges.js'
import type { Parameters } from '../parameters.js'
import type { Sharding } from './level.js'
import { inShard, ownPart, type Unit } from './units.js'

/** This rank's part of one unit. */
interface Part {
  readonly unit: Unit
  /** Where whole units lie, if they do. */
  readonly whole: Float32Array | undefined
  readonly params: Float32Array
  readonly grads: Float32Array
  readonly slots: readonly Float32Array[]
  readonly tensors: readonly TensorRange[]
}

export class ShardedStep {
  /** From level 2 on: which gradients a pass shall make together, one unit after the other. */
  readonly order: readonly (readonly number[])[] | undefined
  private readonly parts: readonly Part[]
  /** Of the present pass, in the order of `order`. */
  private reducing: Promise<void>[] = []
  /** Whether the shard holds gradients of an earlier pass, and the stats of those. */
  private waiting: Float32Array | undefined

  constructor(
    private readonly links: Communicator,
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
    private readonly sharding: Sharding,
    /** Groups whose ranks hold other parts of the model. */
    private readonly others: readonly Communicator[] = [],
  ) {
    const { units } = parameters
    this.parts = units.map((unit) => this.partOf(unit))
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
    this.waiting = this.stats()
  }

  /** The optimizer's step number `step`; refused, with nothing changed, when the sum of losses or a gradient is not finite. */
  async step(
    step: number,
    mark: (phase: 'exchange' | 'optimizer') => void,
  ): Promise<{ readonly loss: number; readonly samples: number; readonly refused: boolean }> {
    const { links, sharding, optimizer } = this
    const stats = this.stats()
    const summing = links.allReduce(stats)
    if (sharding.level < 2) this.reducing = this.parts.map((part) => this.reduceWhole(part))
    const sums = sharding.level < 2 ? this.reducing : this.reducing.toReversed()
    for (const sum of sums) sum.catch(() => {}) // thrown below
    try {
      await summing
      const [sum, samples, bad] = stats as unknown as [number, number, number]
      const loss = sum / samples
      if (!Number.isFinite(sum) || bad > 0) return { loss, samples, refused: true }
      const gradNorm = optimizer.granularity === 'model' ? await this.gradientNorm() : undefined
      const gathering: Promise<unknown>[] = []
      for (const [i, { unit: _, whole, ...part }] of this.parts.entries()) {
        await sums[i]
        mark('exchange')
        optimizer.update({ ...part, step, gradScale: 1 / samples, gradNorm })
        mark('optimizer')
        if (whole) gathering.push(links.allGather(part.params, undefined, whole))
      }
      await Promise.all(gathering)
      mark('exchange')
      return { loss, samples, refused: false }
    } finally {
      await Promise.allSettled(this.reducing)
      this.waiting = undefined
    }
  }

  /** Forgets what waits from `accumulate`. */
  reset(): void {
    this.waiting = undefined
  }

  /** Of this pass and those that wait. */
  private stats(): Float32Array {
    const stats = this.parameters.stats.slice()
    if (this.waiting) add(stats, this.waiting)
    return stats
  }

  private async reduceWhole({ unit: { start, end }, grads }: Part): Promise<void> {
    await this.links.reduceScatter(this.parameters.gradients.subarray(start, end), 'sum', grads)
  }

  private async reduceTurn(turn: number): Promise<void> {
    const { links, parameters, sharding, parts } = this
    const { unit, grads } = parts[parts.length - 1 - turn]!
    const base = (turn % sharding.turns) * parameters.turnFloats
    const buffer = parameters.gradients.subarray(base, base + unit.end - unit.start)
    this.clearPadding(unit, buffer)
    const own = ownPart({ ...unit, start: 0, end: buffer.length }, links.rank, links.size)
    const sum = buffer.subarray(own.start, own.end)
    const later = this.waiting !== undefined
    await links.reduceScatter(buffer, 'sum', sum)
    if (later) add(grads, sum)
    else grads.set(sum)
  }

  /** Other units, whose turn it was before, have left theirs there. */
  private clearPadding({ start, end, tensors }: Unit, buffer: Float32Array): void {
    for (const [i, position] of tensors.entries()) {
      const next = tensors[i + 1]
      const border = next === undefined ? end : this.parameters.tensors[next]!.start
      buffer.fill(0, this.parameters.tensors[position]!.end - start, border - start)
    }
  }

  /** Of the whole model's gradients, from every rank's parts of them: the same on all ranks. */
  private async gradientNorm(): Promise<number> {
    await Promise.all(this.reducing)
    const squares = Float64Array.of(this.parts.reduce((sum, { grads }) => sum + l2Norm(grads) ** 2, 0))
    for (const links of [this.links, ...this.others]) await links.allReduce(squares)
    return Math.sqrt(squares[0]!)
  }

  private partOf(unit: Unit): Part {
    const { trainable, gradients, gradientShard, slots, tensors } = this.parameters
    const { level, rank, size } = this.sharding
    const own = ownPart(unit, rank, size)
    const shard = inShard(unit, size)
    const of = (buffer: Float32Array, { start, end }: { start: number; end: number }) =>
      buffer.subarray(start, end)
    return {
      unit,
      whole: level < 3 ? of(trainable, unit) : undefined,
      params: of(trainable, level < 3 ? own : shard),
      grads: gradientShard ? of(gradientShard, shard) : of(gradients, own),
      slots: slots.map((slot) => of(slot, shard)),
      tensors: cut(tensors, own.start, own.end),
    }
  }
}
