/** The doors of optimizers and schedules: is a hyper-parameter what it has to be? Knows ranges, no optimizer. */
import { LockstepError } from '../../errors.js'
import type { DecayOptions } from './optimizer.js'

/** Throws a LockstepError unless `value` is a number in [0, below). */
export function requireInRange(
  owner: string,
  name: string,
  value: number,
  below = Number.POSITIVE_INFINITY,
): void {
  if (typeof value === 'number' && value >= 0 && value < below) return
  const expected =
    below === Number.POSITIVE_INFINITY ? 'a finite number >= 0' : `a number >= 0 and < ${below}`
  throw new LockstepError(`${owner}: ${name} is ${String(value)}: expected ${expected}`)
}

/** Throws a LockstepError unless `value` is a finite number above 0. */
export function requirePositive(owner: string, name: string, value: number): void {
  if (typeof value === 'number' && value > 0 && value < Number.POSITIVE_INFINITY) return
  throw new LockstepError(`${owner}: ${name} is ${String(value)}: expected a finite number > 0`)
}

/** Throws a LockstepError unless `value` is a whole number of steps, 1 at least. */
export function requireSteps(owner: string, name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return
  throw new LockstepError(`${owner}: ${name} is ${String(value)}: expected a whole number of steps >= 1`)
}

/** Throws a LockstepError unless the weight decay is a finite number >= 0 and the mask, if there is one, a function. */
export function requireDecay(owner: string, { weightDecay = 0, mask }: DecayOptions): void {
  requireInRange(owner, 'weightDecay', weightDecay)
  if (mask === undefined || typeof mask === 'function') return
  throw new LockstepError(
    `${owner}: mask is ${JSON.stringify(mask)}: expected a function (name, shape) => boolean, true where weights decay`,
  )
}
