/**
 * The checks of what users give to a communicator: at the door, and nowhere behind it. All throw a LockstepError that
 * names the method, what was given and what was expected.
 */
import { LockstepError } from '../errors.js'
import { type Dtype, dtypeOf, isHalf } from './call.js'
import { REDUCE_OPS, type ReduceOp } from './communicator.js'

export function checkedDtype(method: string, data: unknown): Dtype {
  const dtype = dtypeOf(data)
  if (dtype) return dtype
  const given = Object.prototype.toString.call(data).slice(8, -1)
  throw new LockstepError(
    `${method} was given ${given}: expected a Float32Array, Float64Array, Int32Array or Uint8Array`,
  )
}

export function checkReduction(op: ReduceOp, dtype: Dtype): void {
  if (!REDUCE_OPS.includes(op)) {
    throw new LockstepError(
      `unknown reduction ${JSON.stringify(op)}: expected one of ${REDUCE_OPS.join(', ')}`,
    )
  }
  if (op === 'mean' && (dtype === 'int32' || dtype === 'uint8')) {
    throw new LockstepError(
      `the mean of ${dtype} is no ${dtype}: reduce with 'sum' and divide, or give floats`,
    )
  }
  if (op !== 'sum' && isHalf(dtype))
    throw new LockstepError(`${op} of ${dtype}: 16-bit floats have sums only; give float32`)
}

/** `what` as in "broadcast from root". */
export function checkRank(what: string, rank: number, size: number): void {
  if (Number.isInteger(rank) && rank >= 0 && rank < size) return
  throw new LockstepError(`${what} ${rank}: expected a rank from 0 to ${size - 1}`)
}

/** A share of `length` elements for each rank. @returns its length. */
export function checkedShare(method: string, length: number, size: number): number {
  const share = length / size
  if (Number.isInteger(share)) return share
  throw new LockstepError(
    `${method} of ${length} elements over ${size} ranks: expected a multiple of ${size}, pad the array to ${Math.ceil(share) * size}`,
  )
}

/** Where a result of `length` elements is to go. */
export function checkInto(method: string, into: unknown, dtype: Dtype, length: number): void {
  const given = checkedDtype(`${method} into`, into)
  const elements = (into as Float32Array).length
  if (given === dtype && elements === length) return
  throw new LockstepError(
    `${method} was given ${given} × ${elements} for its result: expected ${dtype} × ${length}`,
  )
}

/** The lengths of all ranks' parts in an uneven all-gather. */
export function checkCounts(counts: readonly number[], own: number, rank: number, size: number): void {
  const whole = counts.every((count) => Number.isSafeInteger(count) && count >= 0)
  if (counts.length !== size || !whole) {
    throw new LockstepError(
      `allGather was given counts ${JSON.stringify(counts)}: expected the lengths of the ${size} ranks' parts`,
    )
  }
  if (counts[rank] !== own) {
    throw new LockstepError(
      `allGather was given ${own} elements and counts ${JSON.stringify(counts)} by rank ${rank}: expected ${counts[rank]} elements`,
    )
  }
}

/** The members of a sub-group: ranks in a communicator of `size`, each once, and the caller among them. */
export function checkMembers(members: readonly number[], rank: number, size: number): void {
  const given = `group(${JSON.stringify(members)})`
  for (const member of members) {
    if (!Number.isInteger(member) || member < 0 || member >= size) {
      throw new LockstepError(`${given} names ${member}: expected ranks from 0 to ${size - 1}`)
    }
  }
  const twice = members.find((member, index) => members.indexOf(member) !== index)
  if (twice !== undefined)
    throw new LockstepError(`${given} names rank ${twice} twice: expected each rank once`)
  if (!members.includes(rank)) {
    throw new LockstepError(
      `${given} was called by rank ${rank}, which is not in it: call it only on its ranks`,
    )
  }
}
