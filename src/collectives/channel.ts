/**
 * A channel: some ranks that run operations in one order of their own, beside and independent of all other channels
 * on the same links. The world is one, every sub-group, and every pair of ranks that sends, in each direction.
 * Here is only what all members must agree on; nothing travels for that.
 */
import { createHash } from 'node:crypto'

export interface Channel {
  /** On the wire: the same on all members. At most 48 bits; 0 is the world. */
  readonly id: number
  /** The members' ranks in the world. A member's place in this list is its rank in the channel. */
  readonly ranks: readonly number[]
  /** Behind a call in an error: empty for the world. */
  readonly name: string
  /** Whether its operations shall go on while the caller's thread computes, however small they are. */
  readonly background?: boolean
}

export function worldChannel(size: number): Channel {
  return { id: 0, ranks: Array.from({ length: size }, (_, rank) => rank), name: '' }
}

/**
 * Members of `parent`, by their ranks in it. The same list may be made again (`instance` 1, 2, …): another channel,
 * if all of its members make it again.
 */
export function groupChannel(
  parent: Channel,
  members: readonly number[],
  instance: number,
  background = false,
): Channel {
  const ranks = members.map((member) => parent.ranks[member]!)
  return {
    id: identify(`${parent.id} group ${ranks.join()} ${instance}`),
    ...{ ranks, background },
    name: ` in the group of ranks ${ranks.join(', ')}`,
  }
}

/** What `from` sends to `to`, both ranks in `parent`: `from` is rank 0 of it, `to` is rank 1. */
export function pairChannel(parent: Channel, from: number, to: number): Channel {
  const ranks = [parent.ranks[from]!, parent.ranks[to]!]
  return {
    id: identify(`${parent.id} pair ${ranks.join()}`),
    ...{ ranks, background: parent.background ?? false },
    name: ` from rank ${ranks[0]} to rank ${ranks[1]}${parent.name}`,
  }
}

/** 48 bits of SHA-256: two channels of one job meet with a probability of k²/2^49. */
function identify(text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6)
}
