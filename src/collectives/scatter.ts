/**
 * Scatter: every rank ends with its share of the root's array.
 */
import { announce } from './announce.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { share, wireBlocks } from './slices.js'

/**
 * The root sends everybody its share: one step, and the root sends (W - 1)/W of its array. `data` holds one share per rank
 * on the root, and only the rank's own elsewhere.
 */
export async function scatter(links: Links, data: Numbers, root: number): Promise<void> {
  const { rank, size } = links
  const agreed = announce(links)
  if (rank === root) {
    for (let peer = 0; peer < size; peer++) {
      if (peer === root) continue
      for (const block of wireBlocks(share(data, size, peer))) links.send(peer, block)
    }
    return agreed
  }
  await agreed
  await links.receiveEach(root, wireBlocks(data), () => {})
}
