/**
 * Barrier: no rank leaves before every rank has come.
 */
import { modulo } from './chunks.js'
import type { Links } from './links.js'

const NOTHING = new Uint8Array(0)

/**
 * Dissemination barrier (Hensgen, Finkel & Manber, "Two algorithms for barrier synchronization", 1988). In round
 * k each rank signals the one 2^k after it and awaits the one 2^k before it: after ⌈log2 W⌉ rounds it has heard,
 * at first or second hand, from all. ⌈log2 W⌉ empty frames per rank.
 */
export async function barrier(links: Links): Promise<void> {
  const { rank, size } = links
  for (let distance = 1; distance < size; distance *= 2) {
    links.send(modulo(rank + distance, size), NOTHING)
    await links.receive(modulo(rank - distance, size), NOTHING)
  }
}
