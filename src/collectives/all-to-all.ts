/**
 * All-to-all: share i of rank j's array becomes share j of rank i's result. A transposition of who holds what.
 */
import { bytesOf } from './call.js'
import { modulo } from './chunks.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { share, wireBlocks } from './slices.js'

/**
 * Direct: everybody sends everybody its share, at distance 1 first so that no rank is everybody's first. One step, and each
 * rank sends (W - 1)/W of its array. `data` is the array and behind it, equally long, the result.
 */
export async function allToAll(links: Links, data: Numbers): Promise<void> {
  const { rank, size } = links
  const half = data.length / 2
  const given = data.subarray(0, half)
  const result = data.subarray(half)
  bytesOf(share(result, size, rank)).set(bytesOf(share(given, size, rank)))
  const arrivals: Promise<void>[] = []
  for (let distance = 1; distance < size; distance++) {
    const to = modulo(rank + distance, size)
    for (const block of wireBlocks(share(given, size, to))) links.send(to, block)
  }
  for (let distance = 1; distance < size; distance++) {
    const from = modulo(rank - distance, size)
    arrivals.push(links.receiveEach(from, wireBlocks(share(result, size, from)), () => {}))
  }
  await Promise.all(arrivals)
}
