/**
 * What gradient compressors remember (error feedback and the like) is another on every rank. For a checkpoint rank 0
 * gathers all of it under names with the rank in them, and gives it back on the way in. It reads and writes no file.
 */
import type { Communicator } from '../collectives/communicator.js'
import type { NamedTensor } from './checkpoint/safetensors.js'

const PREFIX = 'feedback/'

export const isFeedback = ({ name }: NamedTensor): boolean => name.startsWith(PREFIX)

/** All ranks' state on rank 0, nothing elsewhere. All ranks must call it together. */
export async function gatherFeedback(
  links: Communicator,
  own: readonly NamedTensor[],
): Promise<NamedTensor[]> {
  const gathered: NamedTensor[] = []
  for (const { name, shape, data } of own) {
    const all = (await links.gather(data)) as Float32Array | undefined
    if (all === undefined) continue
    for (let rank = 0; rank < links.size; rank++) {
      const part = all.subarray(rank * data.length, (rank + 1) * data.length)
      gathered.push({ name: `${PREFIX}${rank}/${name}`, shape, data: part })
    }
  }
  return gathered
}

/** Whether `saved` is the state of just as many ranks, compressed in just this way. */
export function fits(size: number, own: readonly NamedTensor[], saved: readonly NamedTensor[]): boolean {
  const lengths = new Map(saved.map(({ name, data }) => [name, data.length]))
  const ranks = Array.from({ length: size }, (_, rank) => rank)
  return (
    saved.length === size * own.length &&
    own.every(({ name, data }) =>
      ranks.every((rank) => lengths.get(`${PREFIX}${rank}/${name}`) === data.length),
    )
  )
}

/** The way back. @param saved on rank 0, and it fits; elsewhere it is not looked at. */
export async function scatterFeedback(
  links: Communicator,
  own: readonly NamedTensor[],
  saved: readonly NamedTensor[],
): Promise<void> {
  const byName = new Map(saved.map(({ name, data }) => [name, data]))
  for (const { name, data } of own) {
    const parts = Array.from({ length: links.size }, (_, rank) => byName.get(`${PREFIX}${rank}/${name}`))
    if (links.rank > 0) {
      await links.scatter(data, 0)
      continue
    }
    const whole = new Float32Array(links.size * data.length)
    parts.forEach((part, rank) => {
      whole.set(part!, rank * data.length)
    })
    await links.scatter(data, 0, whole)
  }
}
