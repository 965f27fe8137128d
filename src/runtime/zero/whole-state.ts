/**
 * Parameters and optimizer state as a checkpoint has them, whole, and back: so that what was saved on some number of ranks,
 * sharded or not, can be loaded on any other. It knows no files.
 */
import type { Communicator } from '../../collectives/communicator.js'
import type { Parameters } from '../parameters.js'
import { gatherAll, gatherOnRankZero, scatterFromRankZero } from './shards.js'
import { inShard, ownPart } from './units.js'

/** Whole buffers, for `Parameters.modelTensors` and `.optimizerTensors`. */
export interface WholeState {
  readonly values: Float32Array
  readonly slots: readonly Float32Array[]
}

/** On rank 0 all of it; elsewhere what is there. All ranks must call it together. */
export async function wholeState(links: Communicator, parameters: Parameters): Promise<WholeState> {
  const { level } = parameters.sharding
  const { units, trainable, frozen, trainableFloats } = parameters
  const { values, slots } = roomForState(parameters)
  if (level === 0) return { values, slots }
  const gathered: Float32Array[] = []
  for (const shard of parameters.slots) {
    gathered.push((await gatherOnRankZero(links, units, shard)) ?? new Float32Array())
  }
  if (level === 3) {
    const all = await gatherOnRankZero(links, units, trainable)
    if (all) values.set(all)
    if (all) values.set(frozen, trainableFloats)
  }
  return { values, slots: gathered }
}

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
    const whole = parameters.place(0).subarray(0, unit.end - unit.start)
    if (links.rank === 0) parameters.readUnit(unit, whole)
    await links.broadcast(whole, 0)
    const { start, end } = ownPart({ ...unit, start: 0, end: whole.length }, links.rank, links.size)
    trainable.set(whole.subarray(start, end), inShard(unit, links.size).start)
  }
  await links.broadcast(frozen, 0)
}

/** Where a checkpoint can be read into: the buffers themselves as far as they are whole. */
export function roomForState(parameters: Parameters): WholeState {
  const { sharding, trainableFloats, frozen, slots } = parameters
  const { level, rank } = sharding
  const room = (floats: number) => new Float32Array(rank === 0 ? floats : 0)
  return {
    values: level < 3 ? parameters.values : room(trainableFloats + frozen.length),
    slots: level < 1 ? slots : slots.map(() => room(trainableFloats)),
  }
}

/** Every rank gets rank 0's, or its parts of it. All ranks must call it together. */
export async function spreadState(
  links: Communicator,
  parameters: Parameters,
  { values, slots }: WholeState,
): Promise<void> {
  if (links.size === 1) return
  const { sharding, units, trainable, frozen, trainableFloats } = parameters
  const whole = (buffer: Float32Array) => (links.rank === 0 ? buffer : undefined)
  if (sharding.level < 3) await links.broadcast(values, 0)
  else {
    await scatterFromRankZero(links, units, trainable, whole(values))
    if (links.rank === 0) frozen.set(values.subarray(trainableFloats))
    await links.broadcast(frozen, 0)
  }
  for (const [i, slot] of slots.entries()) {
    if (sharding.level < 1) await links.broadcast(slot, 0)
    else await scatterFromRankZero(links, units, parameters.slots[i]!, whole(slot))
  }
}
