/** All ranks' parameters from the parts that each has, and back. */
import type { Communicator } from '../../collectives/communicator.js'
import type { Parameters } from '../parameters.js'
import { gatherAll } from './shards.js'
import { inShard, ownPart } from './units.js'

/** All parameters, on every rank, as a new array. All ranks must call it together. */
export async function wholeValues(links: Communicator, parameters: Parameters): Promise<Float32Array> {
  const { units, trainable, frozen, trainableFloats } = parameters
  const values = new Float32Array(trainableFloats + frozen.length)
  values.set(frozen, trainableFloats)
  await gatherAll(links, units, trainable, values)
  return values
}

/** Every rank gets its parts of rank 0's model, a unit at a time. All ranks must call it together. */
export async function spreadModel(links: Communicator, parameters: Parameters): Promise<void> {
  const { units, trainable, frozen } = parameters
  for (const unit of units) {
    const whole = new Float32Array(unit.end - unit.start)
    if (links.rank === 0) parameters.readUnit(unit, whole)
    await links.broadcast(whole, 0)
    const { start, end } = ownPart({ ...unit, start: 0, end: whole.length }, links.rank, links.size)
    trainable.set(whole.subarray(start, end), inShard(unit, links.size).start)
  }
  await links.broadcast(frozen, 0)
}
