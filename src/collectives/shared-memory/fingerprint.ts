/**
 * A call as the int32 words in which ranks compare it: exact, not a hash, so that every difference can be named.
 */
import { type Call, DTYPES, OPERATIONS, type Operation } from '../call.js'
import { REDUCE_OPS } from '../communicator.js'
import { CODE, COUNT_HIGH, COUNT_LOW, LAYOUT } from './layout.js'

/** Only ranks that share memory have this operation, and it never travels in a frame: hence not one of `OPERATIONS`. */
export const SHARE = 'share' as Operation

const NAMES: readonly Operation[] = [...OPERATIONS, SHARE]

/** Bits 0-3 operation, 4-7 dtype, 8-11 1 + reduction, from 12 on 1 + root. */
export function codeOf({ operation, dtype, reduction, root = -1 }: Call): number {
  const reduced = reduction === undefined ? 0 : REDUCE_OPS.indexOf(reduction) + 1
  return NAMES.indexOf(operation) | (DTYPES.indexOf(dtype) << 4) | (reduced << 8) | ((root + 1) << 12)
}

/** The call whose words begin at `line`. */
export function readCall(words: Int32Array, line: number): Call {
  const code = words[line + CODE]!
  const root = (code >>> 12) - 1
  const reduction = REDUCE_OPS[((code >>> 8) & 15) - 1]
  const layout = words[line + LAYOUT]!
  return {
    operation: NAMES[code & 15]!,
    dtype: DTYPES[(code >>> 4) & 15]!,
    count: (words[line + COUNT_LOW]! >>> 0) + words[line + COUNT_HIGH]! * 2 ** 32,
    ...(reduction && { reduction }),
    ...(root >= 0 && { root }),
    ...(layout !== 0 && { layout }),
  }
}
