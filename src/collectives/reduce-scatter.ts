/**
 * Reduce-scatter: rank r ends with slice r of the elementwise reduction of all ranks' arrays.
 */
import { allocate, bytesOf, bytesPerElement, dtypeOf, isHalf } from './call.js'
import { blocksOf, modulo } from './chunks.js'
import type { Numbers, ReduceOp } from './communicator.js'
import type { HalfArray } from './kernels/half-arrays.js'
import { sumHalves } from './kernels/half-sums.js'
import type { Links } from './links.js'
import { combineOf, divide } from './reduce.js'
import { ringPass } from './ring.js'
import { share, wireBlocks } from './slices.js'
import { BLOCK_BYTES } from './wire/frame.js'

/**
 * Ring reduce-scatter: the first half of the ring all-reduce. Chunk c starts at rank c + 1 and is complete at rank
 * c. W - 1 steps, and each rank sends (W - 1)/W of the array. Only slice `rank` of `data` is meaningful afterwards:
 * the rest holds partial results.
 */
export function reduceScatter(links: Links, data: Numbers, op: ReduceOp): Promise<void> {
  const { rank, size } = links
  if (isHalf(dtypeOf(data)!)) return direct(links, data as HalfArray)
  return ringPass(links, data, {
    first: rank - 1,
    steps: size - 1,
    reduced: size - 1,
    combine: combineOf(dtypeOf(data)!, op),
    ...(op === 'mean' && { finish: (block: Numbers) => divide(block, size) }),
  })
}

/**
 * Of 16-bit floats, which are too short for partial sums on their way: every rank gets all parts of its slice, and adds them
 * in rank order in float32. One step, and the same bytes.
 */
async function direct(links: Links, data: HalfArray): Promise<void> {
  const { rank, size } = links
  for (let distance = 1; distance < size; distance++) {
    const to = modulo(rank + distance, size)
    for (const block of wireBlocks(share(data, size, to))) links.send(to, block)
  }
  const dtype = dtypeOf(data)!
  const own = share(data, size, rank)
  const most = BLOCK_BYTES / bytesPerElement(dtype)
  const rooms = Array.from({ length: size }, () => allocate(dtype, Math.min(most, own.length)))
  for (const { start, end } of blocksOf({ start: 0, end: own.length }, most)) {
    const block = own.subarray(start, end)
    const parts = rooms.map((room, peer) => (peer === rank ? block : room.subarray(0, end - start)))
    const others = parts.filter((_, peer) => peer !== rank)
    const peers = [...parts.keys()].filter((peer) => peer !== rank)
    await Promise.all(others.map((part, i) => links.receive(peers[i]!, bytesOf(part))))
    sumHalves(block as HalfArray, parts as HalfArray[])
  }
}
