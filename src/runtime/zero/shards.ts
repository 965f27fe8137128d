/** Makes a whole buffer on all ranks of the parts that each has. It computes nothing. */
import type { Communicator } from '../../collectives/communicator.js'
import type { Working } from './level.js'
import { narrow } from './part.js'
import { inShard, ownPart, type Unit } from './units.js'

/** Every rank gets the whole in `into`. */
export async function gatherAll(
  links: Communicator,
  units: readonly Unit[],
  shard: Float32Array,
  into: Float32Array,
): Promise<void> {
  await Promise.all(units.map((unit) => gatherUnit(links, unit, shard, into.subarray(unit.start, unit.end))))
}

/** Every rank gets all of one unit in `into`, which is as long, rounded if that is in 16 bits. */
export async function gatherUnit(
  links: Communicator,
  unit: Unit,
  shard: Float32Array,
  into: Working,
): Promise<void> {
  const [from, to] = [
    inShard(unit, links.size),
    ownPart({ ...unit, start: 0, end: into.length }, links.rank, links.size),
  ]
  const part = into.subarray(to.start, to.end)
  narrow(part, shard.subarray(from.start, from.end))
  await links.allGather(part, undefined, into)
}
