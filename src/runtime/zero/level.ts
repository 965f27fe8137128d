/** What of the training state is sharded over the ranks (Rajbhandari et al. 2020, "ZeRO"), and what that asks of a run. */
import type { HalfArray, HalfType } from '../../collectives/kernels/half-arrays.js'
import { LockstepError } from '../../errors.js'
import type { Parameter } from '../model.js'
import type { Granularity, Optimizer } from '../optimizers/optimizer.js'

/** 0: nothing; 1: the optimizer's state; 2: gradients too; 3: parameters too. */
export type ZeroLevel = 0 | 1 | 2 | 3

const LEVELS = [0, 1, 2, 3]

/** Parameters and gradients as passes read and write them. */
export type Working = Float32Array | HalfArray

export interface Sharding {
  readonly level: ZeroLevel
  readonly rank: number
  readonly size: number
  /** Of a unit that is not streamed. */
  readonly unitFloats: number
  /** Buffers through which streamed units take turns: two where one can travel while the next is computed. */
  readonly turns: 1 | 2
  /** What passes read parameters in and write gradients in, where that is not float32; then parameters are spread, too. */
  readonly half?: HalfType | undefined
}

/** @throws LockstepError for a level that there is not, or options and an optimizer that cannot be sharded. */
export function checkZero(
  zero: unknown,
  {
    compression = 'none',
    overlap = 'auto',
  }: { readonly compression?: string; readonly overlap?: number | 'auto' },
  optimizer: Optimizer,
): asserts zero is ZeroLevel {
  if (!LEVELS.includes(zero as number))
    throw new LockstepError(
      `zero is ${JSON.stringify(zero)}: expected 0 (nothing is sharded), 1 (optimizer state), 2 (gradients too) or ` +
        '3 (parameters too)',
    )
  if (zero === 0) return
  if (compression !== 'none')
    throw new LockstepError(
      `compression is ${compression} with zero ${zero}: sharded gradients travel as float32, or as precision says; leave one of them out`,
    )
  if (overlap !== 'auto')
    throw new LockstepError(
      `overlap is ${overlap} with zero ${zero}, which says itself when gradients travel: leave overlap out`,
    )
  if (shardedGranularity(optimizer) !== 'element')
    throw new LockstepError(
      `optimizer ${optimizer.name} needs ${optimizer.granularity === 'tensor' ? 'whole tensors' : 'all gradients at once'}, ` +
        `and with zero ${zero} a rank holds parts of them: use one that works by elements (sgd, momentum, adam, adamw, ` +
        'lion, adagrad, rmsprop; clipByGlobalNorm around it is fine), or zero 0',
    )
}

/** @throws LockstepError for parameters that something needs whole outside of a pass. @param instead what to use */
export function checkWholeless(parameters: readonly Parameter[], instead: string): void {
  const constrained = parameters.find(({ constraint }) => constraint !== undefined)
  if (constrained)
    throw new LockstepError(
      `weight ${constrained.name} has a constraint, which needs all of it after each step: use ${instead}, or leave it out`,
    )
}

/** What an optimizer may be given where a rank has the whole model's gradient norm and parts of the rest. */
export function shardedGranularity({ granularity, givenNorm }: Optimizer): Granularity {
  return givenNorm ?? granularity
}
