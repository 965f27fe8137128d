/** What a user may ask for with `recompute`. */
import type { Recompute } from '../../compiler/recompute-cuts.js'
import { LockstepError } from '../../errors.js'

/**
 * Keep few activations for the backward pass, and compute the others again when it gets there (activation checkpointing,
 * docs/recompute.md): less memory for at most one forward pass more. True: cut where least memory is needed; a number: into
 * at most so many segments, of which the last is not computed again. The training is the same, bit for bit.
 */
export type RecomputeOption = boolean | number

/** @throws LockstepError for a number that is no number of segments */
export function recomputeOf(given: RecomputeOption | undefined): Recompute | undefined {
  if (given === undefined || given === false) return undefined
  if (given === true || (Number.isInteger(given) && given >= 2)) return given
  throw new LockstepError(`recompute is ${given}: expected true, or segments of the forward pass (2, 3, …)`)
}
