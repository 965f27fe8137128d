/**
 * What collectives with a root do first, so that ranks which take different ranks for the root find out at once, instead
 * of all waiting for each other.
 */
import { modulo } from './chunks.js'
import type { Links } from './links.js'

const NOTHING = new Uint8Array(0)

/**
 * Every rank sends the next one in the ring an empty frame, which carries its fingerprint, and takes one from the rank
 * before. Settles once that one is there; ranks that differ have neighbours that differ somewhere in the ring.
 */
export function announce(links: Links): Promise<void> {
  const { rank, size } = links
  links.send(modulo(rank + 1, size), NOTHING)
  return links.receive(modulo(rank - 1, size), NOTHING)
}
