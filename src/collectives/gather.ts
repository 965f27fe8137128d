/**
 * Gather: one rank ends with all ranks' parts, in rank order.
 */
import { announce } from './announce.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { share, wireBlocks } from './slices.js'

/**
 * Everybody sends its part to the root: one step, and each rank sends its part once. `data` holds one share per rank on
 * the root, whose own is filled, and only the part elsewhere.
 */
export async function gather(links: Links, data: Numbers, root: number): Promise<void> {
  const { rank, size } = links
  const agreed = announce(links)
  if (rank !== root) {
    for (const block of wireBlocks(data)) links.send(root, block)
    return agreed
  }
  await agreed
  const others = Array.from({ length: size }, (_, peer) => peer).filter((peer) => peer !== root)
  await Promise.all(
    others.map((peer) => links.receiveEach(peer, wireBlocks(share(data, size, peer)), () => {})),
  )
}
