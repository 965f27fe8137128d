/**
 * The questions that every public door of this room asks of its numbers. Refuses with one line and mends nothing.
 */
import { LockstepError } from '../errors.js'

/** @throws LockstepError unless `value` is an integer of at least `least`; `advice` says what to do about it. */
export function checkInteger(who: string, name: string, value: number, least: number, advice: string): void {
  if (Number.isSafeInteger(value) && value >= least) return
  throw new LockstepError(`${who}: ${name} is ${value}, expected an integer of at least ${least}; ${advice}`)
}

/** @throws LockstepError unless `rank` and `size` name one rank of a world. */
export function checkRank(who: string, rank: number, size: number): void {
  checkInteger(who, 'size', size, 1, 'pass the number of ranks, e.g. world.size')
  if (Number.isSafeInteger(rank) && rank >= 0 && rank < size) return
  throw new LockstepError(
    `${who}: rank is ${rank}, expected an integer from 0 to ${size - 1} (size is ${size}); pass e.g. world.rank`,
  )
}
