/** A rank that is there on paper only: enough of a communicator to lay out a mesh and to trace, as all would do alike. */
import type { Communicator, Numbers } from '../../collectives/communicator.js'

export function paperRank(rank: number, size: number): Communicator {
  const links: Pick<Communicator, 'rank' | 'size' | 'group' | 'allGather'> = {
    rank,
    size,
    group: (ranks) => paperRank(ranks.indexOf(rank), ranks.length),
    // All say what this one says.
    allGather: async (part: Numbers) => {
      const all = new Uint8Array(size * part.byteLength)
      const own = new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
      for (let i = 0; i < size; i++) all.set(own, i * own.length)
      return all
    },
  }
  return links as Communicator
}
