/**
 * All-gather: every rank ends with all ranks' parts, in rank order.
 */
import type { Range } from './chunks.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { ringPass } from './ring.js'

/**
 * Ring all-gather: the second half of the ring all-reduce. `whole` has one slice per rank, and this rank's is
 * filled; every slice travels around the ring once. W - 1 steps, and each rank sends W - 1 slices.
 */
export function allGather(links: Links, whole: Numbers): Promise<void> {
  return ringPass(links, whole, { first: links.rank, steps: links.size - 1, reduced: 0 })
}

/** The same with slices of `counts[rank]` elements each. */
export function allGatherUneven(links: Links, whole: Numbers, counts: readonly number[]): Promise<void> {
  const chunks: Range[] = []
  let end = 0
  for (const count of counts) {
    chunks.push({ start: end, end: end + count })
    end += count
  }
  return ringPass(links, whole, { first: links.rank, steps: links.size - 1, reduced: 0, chunks })
}
