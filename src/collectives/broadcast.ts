/**
 * Broadcast: every rank ends with the root's array.
 */
import { modulo } from './chunks.js'
import type { Numbers } from './communicator.js'
import type { Links } from './links.js'
import { wireBlocks } from './slices.js'

const NOTHING = new Uint8Array(0)

/**
 * Pipelined ring broadcast: blocks flow from the root to the next rank and on to the one before the root, each passed
 * on as soon as it is there. W - 1 steps of latency, and no rank sends more than the array once.
 *
 * Two empty frames make it as trustworthy as the others. Every rank but the root first announces its call to the
 * next one, so that ranks which all take another for the root do not all wait in silence. The last rank closes the
 * ring, so that the root too returns only when everybody has agreed and has everything.
 */
export async function broadcast(links: Links, data: Numbers, root: number): Promise<void> {
  const { rank, size } = links
  const next = modulo(rank + 1, size)
  const previous = modulo(rank - 1, size)
  const blocks = wireBlocks(data)

  if (rank === root) {
    for (const block of blocks) links.send(next, block)
    await links.receive(previous, NOTHING)
    await links.receive(previous, NOTHING)
    return
  }
  links.send(next, NOTHING)
  if (previous !== root) await links.receive(previous, NOTHING)
  for (const block of blocks) {
    await links.receive(previous, block)
    if (next !== root) links.send(next, block)
  }
  if (next === root) links.send(next, NOTHING)
}
