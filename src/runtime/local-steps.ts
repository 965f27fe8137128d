/** The option `localSteps`: how often ranks that train for themselves meet, and how; and what it cannot be used with. */
import { LockstepError } from '../errors.js'
import type { Optimizer } from './optimizers/index.js'

export interface LocalSteps {
  /** Steps of a round: ranks exchange nothing until its end. */
  readonly every: number
  /** Ordinary steps before the first round, in which gradients are averaged (post-local SGD). Default 0. */
  readonly warmUp?: number
  /**
   * What is done with the mean of what the ranks have moved by in a round, as with a gradient: by default their parameters are
   * averaged. DiLoCo: `momentum(0.7, { nesterov: true })`.
   */
  readonly outer?: Optimizer
}

/** @throws LockstepError for values that are none, or options that contradict local steps. */
export function localStepsOf(options: {
  readonly localSteps?: number | LocalSteps
  readonly zero?: number
  readonly overlap?: number | 'auto'
  readonly lossScale?: unknown
  readonly precision?: string
}): LocalSteps | undefined {
  const { localSteps, zero = 0, overlap = 'auto', lossScale, precision } = options
  if (localSteps === undefined) return undefined
  const local = typeof localSteps === 'number' ? { every: localSteps } : localSteps
  const { every, warmUp = 0 } = local
  if (!(Number.isInteger(every) && every >= 1))
    throw new LockstepError(
      `localSteps is ${every}: expected how many steps lie between two averagings (1, 2, …)`,
    )
  if (!(Number.isInteger(warmUp) && warmUp >= 0))
    throw new LockstepError(`localSteps.warmUp is ${warmUp}: expected a number of steps (0, 1, …)`)
  if (zero !== 0)
    throw new LockstepError(
      `zero is ${zero} with localSteps ${every}: ranks that differ cannot share state; leave one of them out`,
    )
  if (overlap !== 'auto')
    throw new LockstepError(
      `overlap is ${overlap} with localSteps ${every}, where no gradients are exchanged: leave overlap out`,
    )
  if (lossScale !== undefined || precision === 'float16')
    throw new LockstepError(
      `a loss scale with localSteps ${every}: ranks that skip different steps would drift apart; use precision bfloat16, ` +
        'or leave localSteps out',
    )
  return local
}

/** The inner optimizer with room for the outer one's state, so that both are saved and loaded together. */
export function withOuterState(inner: Optimizer, outer: Optimizer | undefined): Optimizer {
  if (outer === undefined) return inner
  return {
    ...inner,
    hyper: { ...inner.hyper, outer: { name: outer.name, ...outer.hyper } },
    slots: [...inner.slots, ...outer.slots.map((slot) => `outer ${slot}`)],
    update: (args) => inner.update({ ...args, slots: args.slots.slice(0, inner.slots.length) }),
  }
}
