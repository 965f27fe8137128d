/**
 * An engine whose backward passes work on a scaled loss. What comes out is as if it were not: gradients and loss are divided
 * again before anybody sees them; but gradients of 16 bits stay scaled until the update (`gradientScale`). It tells by the
 * third of the stats that a gradient is not finite; that decides nothing.
 */

import type { Communicator } from '../../collectives/communicator.js'
import { allFinite } from '../../collectives/kernels/half-arrays.js'
import { divide } from '../../collectives/kernels/kernels.js'
import { LockstepError } from '../../errors.js'
import type { RankMetrics } from '../../observe/metrics.js'
import type { Engine } from '../engines/engine.js'
import { l2Norm } from '../optimizers/norm.js'
import type { Parameters as Buffers } from '../parameters.js'
import type { Working } from '../zero/level.js'
import type { LossScale, LossScaleState } from './loss-scale.js'

/** Where in the stats a rank says so; a sum above 0 means that one has. */
export const NOT_FINITE = 2

export class ScaledEngine implements Engine {
  private readonly gradients: readonly Working[]
  /** Gradients of 16 bits: what samples are counted in, so that the ranks' sums are about the gradients of the mean loss. */
  private batch: number | undefined
  /** Of this step's passes the tensor whose gradient is not finite and which the backward pass comes to first; -1: none. */
  private first = -1

  constructor(
    private readonly engine: Engine,
    private readonly parameters: Buffers,
    private readonly lossScale: LossScale,
    private readonly links: Communicator,
    private readonly metrics: RankMetrics | undefined,
  ) {
    this.gradients = parameters.passGradientViews()
  }

  get name() {
    return this.engine.name
  }

  get compileMs() {
    return this.engine.compileMs
  }

  async train(...[x, y, weight, key, watch]: Parameters<Engine['train']>) {
    const { stats, sharding } = this.parameters
    const { scale } = this.lossScale
    // As PyTorch's, the scale is of the mean loss: 16 bits need not hold the sum over a batch.
    const batch = sharding.half ? await this.agreedBatch(weight) : weight
    const divisor = scale / batch
    let lossDivided = false
    const unscale = (positions: Iterable<number>) => {
      if (!lossDivided) stats[0]! /= divisor
      lossDivided = true
      for (const position of positions) this.unscale(position, divisor)
    }
    const made = (positions: readonly number[]) => {
      if (positions.length > 0) unscale(positions)
      return watch!.made(positions)
    }
    const updates = await this.engine.train(x, y, scale * (weight / batch), key, watch && { ...watch, made })
    if (watch === undefined || !lossDivided) unscale(this.gradients.keys())
    return updates
  }

  /** What gradients that have come out are still multiplied by. */
  get gradientScale(): number {
    return this.batch === undefined ? 1 : this.lossScale.scale / this.batch
  }

  evaluate(...pass: Parameters<Engine['evaluate']>) {
    return this.engine.evaluate(...pass)
  }

  predict(...pass: Parameters<Engine['predict']>) {
    return this.engine.predict(...pass)
  }

  constrain() {
    return this.engine.constrain()
  }

  letGo() {
    return this.engine.letGo()
  }

  release() {
    return this.engine.release()
  }

  /**
   * Tells the scale how step `number` has ended. All ranks must call it together, and all come to the same.
   * @returns the scale that the step was made with
   * @throws LockstepError on every rank when the scale cannot be lowered any more: which gradient has overflowed first.
   */
  async ended(number: number, skipped = false): Promise<{ readonly lossScale: number }> {
    const { first, links, lossScale, metrics } = this
    const { scale } = lossScale
    this.first = -1
    const problem = skipped ? lossScale.overflowed() : lossScale.succeeded()
    metrics?.lossScale(lossScale.scale, skipped)
    if (problem === undefined) return { lossScale: scale }
    const all = links.size === 1 ? [first] : [...(await links.allGather(Int32Array.of(first)))]
    const worst = Math.max(...all)
    const gradient = this.parameters.tensors[worst]?.name
    // 16 bits need not hold sums of what they hold.
    const shared = this.parameters.sharding.half ? "or a sum of all ranks' gradients " : ''
    const what =
      gradient === undefined
        ? `the loss ${shared}of step ${number} is not finite`
        : `the gradient of ${gradient} of step ${number} is not finite on rank ${all.indexOf(worst)}`
    throw new LockstepError(
      `${problem}: ${what}; lower the learning rate, look ` +
        'for NaN and infinities in that batch, or train in bfloat16; parameters are as before this step',
    )
  }

  /** For a checkpoint. */
  get progress(): { readonly lossScale: LossScaleState } {
    return { lossScale: this.lossScale.state }
  }

  /** From a checkpoint, which may be of a run without a loss scale. */
  resume({ lossScale }: { readonly lossScale?: LossScaleState }): void {
    this.first = -1
    if (lossScale) this.lossScale.load(lossScale)
  }

  /** The power of two from all ranks' first batches on, if they are as rank 0's: it changes no bit but where 16 bits end. */
  private async agreedBatch(samples: number): Promise<number> {
    if (this.batch === undefined) {
      const agreed = Float64Array.of(2 ** Math.ceil(Math.log2(samples * this.links.size)))
      await this.links.broadcast(agreed, 0)
      this.batch = agreed[0]!
    }
    return this.batch
  }

  private unscale(position: number, divisor: number): void {
    const gradient = this.gradients[position]!
    if (gradient instanceof Float32Array) {
      divide(gradient, divisor)
      if (Number.isFinite(l2Norm(gradient))) return
    } else if (allFinite(gradient)) return
    this.parameters.stats[NOT_FINITE] = 1
    this.first = Math.max(this.first, position)
  }
}
