/** Settings that must be equal on all ranks: compared once, with an error that names the ranks that differ. */
import type { Communicator } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'

const BYTES = 256

/**
 * All ranks must call it together.
 * @throws LockstepError on every rank, naming the first rank that differs from rank 0, and what both say
 */
export async function requireSame(links: Communicator, what: string, own: string): Promise<void> {
  const text = new Uint8Array(BYTES)
  new TextEncoder().encodeInto(own, text)
  const all = (await links.allGather(text)) as Uint8Array
  const values = Array.from({ length: links.size }, (_, rank) =>
    new TextDecoder().decode(all.subarray(rank * BYTES, (rank + 1) * BYTES)).replace(/\0+$/, ''),
  )
  const rank = values.findIndex((value) => value !== values[0])
  if (rank === -1) return
  throw new LockstepError(
    `${what} is ${JSON.stringify(values[0])} on rank 0 and ${JSON.stringify(values[rank])} on rank ${rank}: ` +
      'give every rank the same',
  )
}
