/**
 * All-reduce: every rank ends with the elementwise reduction of all ranks' arrays.
 */
import { dtypeOf } from './call.js'
import type { Numbers, ReduceOp } from './communicator.js'
import type { Links } from './links.js'
import { recursiveDoubling } from './recursive-doubling.js'
import { combineOf, divide } from './reduce.js'
import { ringPass } from './ring.js'

/**
 * Up to this size the number of steps decides, above it the number of bytes (measured on loopback: see
 * docs/algorithms.md).
 */
export const SMALL_BYTES = 32 * 1024

/** In place. Which algorithm is a function of what all ranks agree on, and so the same on all. */
export function allReduce(links: Links, data: Numbers, op: ReduceOp): Promise<void> {
  return data.byteLength <= SMALL_BYTES ? recursiveDoubling(links, data, op) : ringAllReduce(links, data, op)
}

/**
 * Ring all-reduce in place (Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
 * 2009). The array is cut into W chunks. A reduce-scatter of W - 1 steps carries chunk c from rank c + 1 around
 * the ring, each rank adding its own, until rank c has it complete; an all-gather of W - 1 steps carries it around
 * once more. 2(W - 1) steps, and each rank sends 2(W - 1)/W of the array: no algorithm sends less.
 *
 * Chunk c is reduced along one path, in the order c + 1, c + 2, …, c, then divided once if a mean is wanted, and
 * copied from there: all ranks hold the same bits, in every run.
 */
function ringAllReduce(links: Links, data: Numbers, op: ReduceOp): Promise<void> {
  const { rank, size } = links
  return ringPass(links, data, {
    first: rank - 1,
    steps: 2 * (size - 1),
    reduced: size - 1,
    combine: combineOf(dtypeOf(data)!, op),
    ...(op === 'mean' && { finish: (block: Numbers) => divide(block, size) }),
  })
}
