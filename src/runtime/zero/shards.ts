/** Moves a buffer between its two shapes: whole on one rank or on all, and each rank's parts of it. It computes nothing. */
import type { Communicator } from '../../collectives/communicator.js'
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

/** Every rank gets all of one unit in `into`, which is as long. */
export async function gatherUnit(
  links: Communicator,
  unit: Unit,
  shard: Float32Array,
  into: Float32Array,
): Promise<void> {
  const [from, to] = [
    inShard(unit, links.size),
    ownPart({ ...unit, start: 0, end: into.length }, links.rank, links.size),
  ]
  const part = into.subarray(to.start, to.end)
  part.set(shard.subarray(from.start, from.end))
  await links.allGather(part, undefined, into)
}

/** Rank 0 gets the whole, as a new array. */
export async function gatherOnRankZero(
  links: Communicator,
  units: readonly Unit[],
  shard: Float32Array,
): Promise<Float32Array | undefined> {
  const whole = links.rank === 0 ? new Float32Array(shard.length * links.size) : undefined
  for (const unit of units) {
    const { start, end } = inShard(unit, links.size)
    const all = await links.gather(shard.subarray(start, end))
    if (all) whole!.set(all as Float32Array, unit.start)
  }
  return whole
}

/** Every rank gets its parts of rank 0's `whole`. */
export async function scatterFromRankZero(
  links: Communicator,
  units: readonly Unit[],
  shard: Float32Array,
  whole: Float32Array | undefined,
): Promise<void> {
  for (const unit of units) {
    const { start, end } = inShard(unit, links.size)
    await links.scatter(shard.subarray(start, end), 0, whole?.subarray(unit.start, unit.end))
  }
}
