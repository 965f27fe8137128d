/**
 * Where each tensor lies in the flat buffers of a rank, and how long those are, whole or sharded (parameters.ts says what they
 * are). Pure arithmetic.
 */
import type { Parameter } from './model.js'
import type { Sharding } from './zero/level.js'
import { roomFor, streamed, unitsOf } from './zero/units.js'

/** Floats before the first gradient; a multiple of 16 keeps every tensor on a cache line. */
export const STATS = 16

const padded = (floats: number): number => Math.ceil(floats / 16) * 16

export interface Place {
  readonly parameter: Parameter
  readonly offset: number
}

export const UNSHARDED: Sharding = { level: 0, rank: 0, size: 1, unitFloats: 0, turns: 1 }

/** Bytes of the buffers that `Parameters` would make, without making them. */
export function bytesOfState(parameters: readonly Parameter[], slots: number, sharding = UNSHARDED) {
  const { level, size, half } = sharding
  const { trainableFloats, allFloats, made, gathered, scratch, spread } = layout(parameters, sharding)
  const shard = trainableFloats / size
  const bytes = (floats: number) => floats * Float32Array.BYTES_PER_ELEMENT
  const inPasses = (numbers: number) => bytes(half ? Math.ceil(numbers / 2) : numbers)
  return {
    parameters: inPasses(gathered) + bytes(spread ? allFloats - trainableFloats + shard : 0),
    gradients: bytes(STATS + scratch) + inPasses(made),
    optimizer: bytes(slots * (level < 1 ? trainableFloats : shard)),
    /** All that one reduction of the gradients adds up. */
    reduced: bytes(STATS + trainableFloats),
  }
}

/** Trainable tensors from 0 on, frozen ones after them; places in model order. */
export function layout(parameters: readonly Parameter[], sharding: Sharding) {
  const { level, size, unitFloats, turns, half } = sharding
  const offsets = new Map<Parameter, number>()
  let end = 0
  const place = (parameter: Parameter) => {
    offsets.set(parameter, end)
    end += padded(parameter.variable.size)
  }
  const trainable = parameters.filter((p) => p.trainable)
  const sizes = trainable.map(({ name, variable }) => ({ name, size: variable.size }))
  const cutting =
    level < 2 ? ({ within: 'layers', most: () => unitFloats } as const) : streamed(sizes, sharding)
  const sharded = unitsOf(sizes, size, cutting)
  const units = level === 0 ? [] : sharded.units
  if (level === 0) trainable.forEach(place)
  else {
    for (const [i, parameter] of trainable.entries()) offsets.set(parameter, sharded.offsets[i]!)
    end = units.at(-1)?.end ?? 0
  }
  const trainableFloats = end
  parameters.filter((p) => !p.trainable).forEach(place)
  const places = parameters.map((parameter) => ({ parameter, offset: offsets.get(parameter)! }))
  const room = roomFor(units, size, turns)
  const turnFloats = Math.max(0, ...units.map((unit) => unit.end - unit.start))
  const spread = level === 3 || half !== undefined
  const shardBlock = padded(trainableFloats / size / SCRATCHES)
  return {
    ...{ trainableFloats, allFloats: end, places, units, turnFloats, spread },
    /** Numbers that passes write of gradients, and where each unit's are. */
    made: level < 2 ? trainableFloats : room.floats,
    madeAt: level < 2 ? units.map(({ start }) => start) : room.starts,
    /** Numbers of parameters that passes read; unless those are spread, frozen ones are among them. */
    gathered: level === 3 ? turns * turnFloats : spread ? trainableFloats : end,
    scratch: half ? Math.min(Math.max(shardBlock, LEAST_SCRATCH), MOST_SCRATCH) : 0,
  }
}

/** Parts of a rank's shard that 16-bit gradients are widened in, one after the other: a few floats a call cost more than memory. */
const SCRATCHES = 128
const LEAST_SCRATCH = 256
/** They stay in the second-level cache. */
const MOST_SCRATCH = 16_384
