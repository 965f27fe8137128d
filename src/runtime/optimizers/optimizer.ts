/**
 * What an optimizer is: a pure update rule over flat buffers. It refuses to own state: whoever calls it allocates the
 * slots (zeroed), saves them and counts the steps, so that any contiguous part of a model can be updated by itself.
 */
import { LockstepError } from '../../errors.js'

export interface Optimizer {
  readonly name: string
  readonly hyper: Readonly<Record<string, number>>
  /** Names of its per-parameter state buffers, e.g. ['m', 'v']; each as long as the parameters and zero at the start. */
  readonly slots: readonly string[]
  /** Updates `params` and `slots` in place; `grads` is only read. */
  update(args: UpdateArgs): void
}

/** Buffers of one length: a whole model's or any contiguous part of it, the same part of each. */
export interface UpdateArgs {
  readonly params: Float32Array
  readonly grads: Float32Array
  readonly slots: readonly Float32Array[]
  /** 1 at the first update. */
  readonly step: number
  /** Gradients are multiplied by it before use (the mean over ranks or accumulated batches, loss scaling). */
  readonly gradScale: number
}

/** Throws a LockstepError unless `value` is a number in [0, below). */
export function requireInRange(
  optimizer: string,
  name: string,
  value: number,
  below = Number.POSITIVE_INFINITY,
): void {
  if (typeof value === 'number' && value >= 0 && value < below) return
  const expected =
    below === Number.POSITIVE_INFINITY ? 'a finite number >= 0' : `a number >= 0 and < ${below}`
  throw new LockstepError(`${optimizer}: ${name} is ${String(value)}: expected ${expected}`)
}
