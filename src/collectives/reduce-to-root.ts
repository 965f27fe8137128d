/**
 * Reduce: one rank ends with the elementwise reduction of all ranks' arrays.
 */
import { announce } from './announce.js'
import { bytesOf, bytesPerElement, dtypeOf } from './call.js'
import { blocksOf, modulo } from './chunks.js'
import type { Numbers, ReduceOp } from './communicator.js'
import type { Links } from './links.js'
import { combineOf, divide } from './reduce.js'
import { BLOCK_BYTES } from './wire/frame.js'

/**
 * Pipelined chain: the broadcast's ring backwards in meaning. Blocks flow from the rank after the root around the ring
 * to the root, and each rank adds its own on the way: in the order root + 1, root + 2, …, root. W - 1 steps of latency,
 * and no rank sends more than the array once. `data` of all but the root holds partial results afterwards.
 */
export async function reduceToRoot(links: Links, data: Numbers, op: ReduceOp, root: number): Promise<void> {
  const { rank, size } = links
  const next = modulo(rank + 1, size)
  const previous = modulo(rank - 1, size)
  const dtype = dtypeOf(data)!
  const combine = combineOf(dtype, op)
  const blocks = blocksOf({ start: 0, end: data.length }, BLOCK_BYTES / bytesPerElement(dtype)).map(
    ({ start, end }) => data.subarray(start, end),
  )
  const agreed = announce(links)
  if (previous === root) {
    for (const block of blocks) links.send(next, bytesOf(block))
    return agreed
  }
  await agreed
  const scratch = blocks.map((block) => links.scratch(dtype, block.length))
  await links.receiveEach(previous, scratch.map(bytesOf), (index) => {
    const block = blocks[index]!
    combine(block, scratch[index]!)
    if (rank !== root) links.send(next, bytesOf(block))
    else if (op === 'mean') divide(block, size)
  })
}
