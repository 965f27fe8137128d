/**
 * Reduce-scatter: rank r ends with slice r of the elementwise reduction of all ranks' arrays.
 */
import { dtypeOf } from './call.js'
import type { Numbers, ReduceOp } from './communicator.js'
import type { Links } from './links.js'
import { combineOf, divide } from './reduce.js'
import { ringPass } from './ring.js'

/**
 * Ring reduce-scatter: the first half of the ring all-reduce. Chunk c starts at rank c + 1 and is complete at rank
 * c. W - 1 steps, and each rank sends (W - 1)/W of the array. Only slice `rank` of `data` is meaningful afterwards:
 * the rest holds partial results.
 */
export function reduceScatter(links: Links, data: Numbers, op: ReduceOp): Promise<void> {
  const { rank, size } = links
  return ringPass(links, data, {
    first: rank - 1,
    steps: size - 1,
    reduced: size - 1,
    combine: combineOf(dtypeOf(data)!, op),
    ...(op === 'mean' && { finish: (block: Numbers) => divide(block, size) }),
  })
}
