/**
 * Send and receive: one rank's array becomes another's. The two are the ranks 0 and 1 of a channel of their own, so what
 * one sends arrives in order, and waits for no other operation.
 */
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { wireBlocks } from './slices.js'

/** One step. The sender is done when the array has left, the receiver when it is there. */
export async function sendReceive(links: Links, data: Numbers): Promise<void> {
  const blocks = wireBlocks(data)
  if (links.rank === 1) return links.receiveEach(0, blocks, () => {})
  for (const block of blocks) links.send(1, block)
}
