/** What one rank holds of each unit, and the arithmetic on it: in float32, or with gradients and what passes read in 16 bits. */
import { addHalf, fromHalf, toHalf } from '../../collectives/kernels/half.js'
import { allFinite, type HalfArray } from '../../collectives/kernels/half-arrays.js'
import { add } from '../../collectives/kernels/kernels.js'
import { l2Norm } from '../optimizers/norm.js'
import type { Optimizer, TensorRange, UpdateArgs } from '../optimizers/optimizer.js'
import { cut } from '../optimizers/ranges.js'
import type { Parameters } from '../parameters.js'
import type { Working } from './level.js'
import { inShard, ownPart, type Unit } from './units.js'

/** Updated at a time: all of a part, or as much of one in 16 bits as the scratch has room for. */
interface Block {
  readonly params: Float32Array
  readonly grads: Working
  readonly slots: readonly Float32Array[]
  readonly tensors: readonly TensorRange[]
  /** `params` in 16 bits, if they are kept so, too. */
  readonly working: HalfArray | undefined
}

export class Part {
  private constructor(
    readonly unit: Unit,
    /** The unit's gradients as a pass makes them. */
    readonly made: Working,
    /** This rank's of them, reduced; they may lie among those. */
    readonly grads: Working,
    /** From level 2 on: room for sums of several passes. */
    private readonly sums: Float32Array | undefined,
    /** Where passes read the whole unit, if it is here, and this rank's part of it. */
    readonly whole: Working | undefined,
    readonly own: Working | undefined,
    private readonly blocks: readonly Block[],
    private readonly scratch: Float32Array,
  ) {}

  static of(parameters: Parameters, index: number): Part {
    const { sharding, units, trainable, passParameters, passGradients, gradientShard, slots, sums, scratch } =
      parameters
    const { level, rank, size, half } = sharding
    const unit = units[index]!
    const own = ownPart(unit, rank, size)
    const shard = inShard(unit, size)
    const length = own.end - own.start
    const of = <T extends Working>(buffer: T, { start, end }: { start: number; end: number }): T =>
      buffer.subarray(start, end) as T
    const start = parameters.madeAt[index]!
    const grads = gradientShard ? of(gradientShard, shard) : of(passGradients, own)
    const params = of(trainable, parameters.isSpread ? shard : own)
    const working = level < 3 ? of(passParameters, own) : undefined
    const most = half ? scratch.length : length
    const blocks = Array.from({ length: Math.ceil(length / most) }, (_, i): Block => {
      const range = { start: i * most, end: Math.min((i + 1) * most, length) }
      return {
        params: of(params, range),
        grads: of(grads, range),
        slots: slots.map((slot) => of(of(slot, shard), range)),
        tensors: cut(parameters.tensors, own.start + range.start, own.start + range.end),
        working: half && working && of(working as HalfArray, range),
      }
    })
    const made = of(passGradients, { start, end: start + unit.end - unit.start })
    const later = level < 2 ? undefined : of(sums, shard)
    const whole = level < 3 ? of(passParameters, unit) : undefined
    return new Part(unit, made, grads, later, whole, working, blocks, scratch)
  }

  /** Takes what was reduced of the gradients; `more`: beside what `keep` has kept. */
  take(reduced: Working, more: boolean): void {
    const { grads, sums } = this
    grads.set(reduced)
    if (!more) return
    addTo(sums!, grads)
    narrow(grads, sums!)
  }

  /** Keeps the gradients for those of later passes; `more`: `take` has added them to others already. */
  keep(more: boolean): void {
    if (!more) widen(this.sums!, this.grads)
  }

  /** Only asked of 16 bits, in which sums of finite numbers need not be. */
  get isFinite(): boolean {
    return this.grads instanceof Float32Array || allFinite(this.grads)
  }

  sumOfSquares(): number {
    return this.blocks.reduce((sum, block) => sum + l2Norm(this.gradientsOf(block)) ** 2, 0)
  }

  update(optimizer: Optimizer, args: Pick<UpdateArgs, 'step' | 'gradScale' | 'gradNorm'>): void {
    for (const block of this.blocks) {
      const { params, slots, tensors, working } = block
      optimizer.update({ ...args, params, slots, tensors, grads: this.gradientsOf(block) })
      if (working) toHalf(working, params)
    }
  }

  /** What passes read anew from what the optimizer updates. */
  round(): void {
    for (const { working, params } of this.blocks) if (working) toHalf(working, params)
  }

  private gradientsOf({ grads }: Block): Float32Array {
    if (grads instanceof Float32Array) return grads
    const exact = this.scratch.subarray(0, grads.length)
    fromHalf(exact, grads)
    return exact
  }
}

export function widen(dst: Float32Array, src: Working): void {
  if (src instanceof Float32Array) dst.set(src)
  else fromHalf(dst, src)
}

export function narrow(dst: Working, src: Float32Array): void {
  if (dst instanceof Float32Array) dst.set(src)
  else toHalf(dst, src)
}

export function addTo(dst: Float32Array, src: Working): void {
  if (src instanceof Float32Array) add(dst, src)
  else addHalf(dst, src)
}
