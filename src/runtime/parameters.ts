/**
 * Parameters, gradients and optimizer state in flat buffers of one arena, and each tensor's place in them.
 * It knows offsets and names; it computes nothing.
 *
 *   gradients   [ stats 16 | trainable tensors, each padded to 64 bytes ]
 *   parameters             [ trainable tensors, the same way            | frozen tensors ]
 *   slots                  [ trainable tensors, the same way            ]   one buffer per optimizer slot
 *
 * The stats (loss and sample count) lie before the gradients so that they travel in the first bucket.
 *
 * Sharded over W ranks (zero/), a buffer of this rank's parts takes the place of the whole: from level 1 on of each slot,
 * from level 2 on of the gradients, at level 3 of the trainable parameters. What is whole for a while only, a unit at a
 * time, goes through buffers of one unit, which take turns.
 */
import { createHash } from 'node:crypto'
import { Arena } from '../collectives/kernels/arena.js'
import { LockstepError } from '../errors.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import type { Parameter } from './model.js'
import type { TensorRange } from './optimizers/optimizer.js'
import type { Sharding } from './zero/level.js'
import { streamedFloats, type Unit, unitsOf } from './zero/units.js'

/** Floats before the first gradient; a multiple of 16 keeps every tensor on a cache line. */
export const STATS = 16

const padded = (floats: number): number => Math.ceil(floats / 16) * 16

interface Place {
  readonly parameter: Parameter
  readonly offset: number
}

export class Parameters {
  /** The trainable parameters, or this rank's parts of them: what the optimizer updates. */
  readonly trainable: Float32Array
  readonly frozen: Float32Array
  /** Stats and gradients: what the ranks reduce. On pages of its own, so that they can share them. */
  readonly reduced: Float32Array
  /** What else should be shared: whole parameters, or the buffers that they are gathered in. */
  readonly gathered: Float32Array | undefined
  readonly stats: Float32Array
  /** `reduced`, summed over the micro-batches accumulated so far. */
  readonly sums: Float32Array
  /** Of all trainable parameters, or of as many units as take turns. */
  readonly gradients: Float32Array
  /** This rank's parts of the gradients, where it keeps nothing else of them. */
  readonly gradientShard: Float32Array | undefined
  /** As long as all trainable parameters, or this rank's parts of them. */
  readonly slots: readonly Float32Array[]
  /** What lies where among the trainable parameters, in ascending order. */
  readonly tensors: readonly TensorRange[]
  /** Of the trainable parameters; empty unless they are sharded. */
  readonly units: readonly Unit[]
  /** Of all trainable parameters together, on whatever ranks. */
  readonly trainableFloats: number
  /** Of one buffer that units take turns in. */
  readonly turnFloats: number
  private readonly morePlaces: Float32Array[] = []
  /** All parameters, trainable ones first, if they are here. */
  private whole: Float32Array | undefined
  private readonly places: readonly Place[]
  readonly slotNames: readonly string[]

  /** @throws LockstepError when the model does not fit into one arena. */
  constructor(
    parameters: readonly Parameter[],
    slotNames: readonly string[],
    readonly sharding: Sharding = UNSHARDED,
  ) {
    const { level, size, turns } = sharding
    const { trainableFloats, allFloats, places, units } = layout(parameters, sharding)
    const shardFloats = trainableFloats / size
    const turnFloats = Math.max(0, ...units.map(({ start, end }) => end - start))
    const frozenFloats = allFloats - trainableFloats
    const reducedFloats = STATS + (level < 2 ? trainableFloats : turns * turnFloats)
    const gatheredFloats = level < 3 ? allFloats : turns * turnFloats
    // Gradients' sums over micro-batches cost address space but no memory until used.
    const lengths = [
      ...(level < 2 ? [reducedFloats] : [shardFloats]),
      ...(level < 3 ? [] : [frozenFloats, shardFloats]),
      ...slotNames.map(() => (level < 1 ? trainableFloats : shardFloats)),
    ]
    const pages = Arena.bytesForPages(reducedFloats) + Arena.bytesForPages(gatheredFloats)
    const arena = new Arena(Arena.bytesFor(lengths) + pages)
    const gathered = arena.allocPages(gatheredFloats)
    this.reduced = arena.allocPages(reducedFloats)
    this.sums = level < 2 ? arena.alloc(reducedFloats) : new Float32Array()
    this.gradientShard = level < 2 ? undefined : arena.alloc(shardFloats)
    this.gathered = level < 1 ? undefined : gathered
    this.whole = level < 3 ? gathered : undefined
    this.trainable = level < 3 ? gathered.subarray(0, trainableFloats) : arena.alloc(shardFloats)
    this.frozen = level < 3 ? gathered.subarray(trainableFloats) : arena.alloc(frozenFloats)
    this.stats = this.reduced.subarray(0, STATS)
    this.gradients = this.reduced.subarray(STATS)
    this.slots = slotNames.map(() => arena.alloc(level < 1 ? trainableFloats : shardFloats))
    this.units = units
    this.trainableFloats = trainableFloats
    this.turnFloats = turnFloats
    this.slotNames = slotNames
    this.places = places
    this.tensors = this.ordered()
      .filter(({ parameter }) => parameter.trainable)
      .map((place) => ({
        ...describe(place),
        start: place.offset,
        end: place.offset + place.parameter.variable.size,
      }))
    this.readModel()
  }

  /** All parameters: trainable tensors, then frozen ones. @throws LockstepError while they are spread over the ranks. */
  get values(): Float32Array {
    if (this.whole !== undefined) return this.whole
    throw new LockstepError(
      'with zero 3 each rank holds a part of the parameters: call await ddp.gather() on all ranks first',
    )
  }

  /** Level 3: all parameters, while somebody needs them; undefined: no longer. */
  set values(whole: Float32Array | undefined) {
    this.whole = whole
  }

  get isWhole(): boolean {
    return this.whole !== undefined
  }

  /** Bytes that this rank holds of parameters, gradients and optimizer state; `accumulating`: with sums of gradients. */
  bytes(accumulating: boolean): number {
    const { reduced, sums, gathered, whole, trainable, frozen, gradientShard, slots } = this
    const parts = [
      reduced,
      ...(accumulating ? [sums] : []),
      ...(this.sharding.level < 3 ? [whole] : [gathered, ...this.morePlaces, whole, trainable, frozen]),
      gradientShard,
      ...slots,
    ]
    return parts.reduce((bytes, part) => bytes + (part?.byteLength ?? 0), 0)
  }

  /** Views of the parameters, trainable then frozen: the order in which programs take them. */
  views(): Float32Array[] {
    return this.ordered().map((place) => view(this.values, place))
  }

  /** Views of the frozen parameters, in the same order. */
  frozenViews(): Float32Array[] {
    const { length } = this.tensors
    const first = this.trainableFloats
    return this.ordered()
      .slice(length)
      .map(({ parameter, offset }) => view(this.frozen, { parameter, offset: offset - first }))
  }

  /**
   * Views of the trainable parameters' gradients, in the same order. Where units take turns, from the last to the first,
   * some of them overlap.
   */
  gradientViews(): Float32Array[] {
    const { gradients, units, turnFloats, sharding } = this
    const places = this.ordered().filter(({ parameter }) => parameter.trainable)
    if (sharding.level < 2) return places.map((place) => view(gradients, place))
    return units.flatMap(({ start, tensors }, i) => {
      const base = start - ((units.length - 1 - i) % sharding.turns) * turnFloats
      return tensors.map((position) => {
        const { parameter, offset } = places[position]!
        return view(gradients, { parameter, offset: offset - base })
      })
    })
  }

  /** A buffer for one whole unit at a time: as many as take turns, and more if asked for. */
  place(i: number): Float32Array {
    const { gathered, turnFloats, sharding, morePlaces } = this
    if (i < sharding.turns) return gathered!.subarray(i * turnFloats, (i + 1) * turnFloats)
    morePlaces[i] ??= new Float32Array(turnFloats)
    return morePlaces[i]
  }

  /** The trainable parameter at `position` while its unit is at a place. */
  viewAt(position: number, place: number): Float32Array {
    const { start, end } = this.tensors[position]!
    const unit = this.units.find(({ tensors }) => tensors.includes(position))!
    return this.place(place).subarray(start - unit.start, end - unit.start)
  }

  /** Copies the TensorFlow.js variables' values in, at level 3 those of frozen parameters. */
  readModel(): void {
    const sources = this.ordered().map(({ parameter }) => parameter.variable.dataSync() as Float32Array)
    const targets = this.isWhole ? this.views() : this.frozenViews()
    targets.forEach((target, i) => {
      target.set(sources[sources.length - targets.length + i]!)
    })
  }

  /** Copies a unit's variables' values into `into`. */
  readUnit(unit: Unit, into: Float32Array): void {
    const places = this.ordered()
    for (const position of unit.tensors) {
      const { parameter, offset } = places[position]!
      into.set(parameter.variable.dataSync() as Float32Array, offset - unit.start)
    }
  }

  /** Every parameter in model order. */
  described(): { name: string; shape: readonly number[]; trainable: boolean }[] {
    return this.places.map((place) => ({ ...describe(place), trainable: place.parameter.trainable }))
  }

  /** The frozen parameters. */
  frozenTensors(): NamedTensor[] {
    const frozen = this.places.filter(({ parameter }) => !parameter.trainable)
    return this.frozenViews().map((data, i) => ({ ...describe(frozen[i]!), data }))
  }

  /** Every parameter in model order, as views of `values`. */
  modelTensors(values = this.values): NamedTensor[] {
    return this.places.map((place) => ({ ...describe(place), data: view(values, place) }))
  }

  /** The optimizer's state of every trainable parameter, `slot/parameter`, as views of whole `slots`. */
  optimizerTensors(slots = this.slots): NamedTensor[] {
    return this.slotNames.flatMap((slot, i) =>
      this.places
        .filter(({ parameter }) => parameter.trainable)
        .map((place) => {
          const { name, shape } = describe(place)
          return { name: `${slot}/${name}`, shape, data: view(slots[i]!, place) }
        }),
    )
  }

  /** SHA-256 (hexadecimal) over all parameters, float32 little-endian, in model order. */
  sha256(): string {
    const hash = createHash('sha256')
    for (const { data } of this.modelTensors()) hash.update(littleEndian(data))
    return hash.digest('hex')
  }

  private ordered(): Place[] {
    const [trainable, frozen] = [true, false].map((kind) =>
      this.places.filter((p) => p.parameter.trainable === kind),
    )
    return [...trainable!, ...frozen!]
  }
}

const UNSHARDED: Sharding = { level: 0, rank: 0, size: 1, unitFloats: 0, turns: 1 }

/** Bytes of the buffers that `Parameters` would make, without making them. */
export function bytesOfState(parameters: readonly Parameter[], slots: number, sharding = UNSHARDED) {
  const { level, size, turns } = sharding
  const { trainableFloats, allFloats, units } = layout(parameters, sharding)
  const shard = trainableFloats / size
  const turning = turns * Math.max(0, ...units.map(({ start, end }) => end - start))
  const bytes = (floats: number) => floats * Float32Array.BYTES_PER_ELEMENT
  return {
    parameters: bytes(level < 3 ? allFloats : turning + allFloats - trainableFloats + shard),
    gradients: bytes(STATS + (level < 2 ? trainableFloats : turning + shard)),
    optimizer: bytes(slots * (level < 1 ? trainableFloats : shard)),
    /** All that one reduction of the gradients adds up. */
    reduced: bytes(STATS + trainableFloats),
  }
}

/** Trainable tensors from 0 on, frozen ones after them; places in model order. */
function layout(parameters: readonly Parameter[], { level, size, unitFloats }: Sharding) {
  const offsets = new Map<Parameter, number>()
  let end = 0
  const place = (parameter: Parameter) => {
    offsets.set(parameter, end)
    end += padded(parameter.variable.size)
  }
  const trainable = parameters.filter((p) => p.trainable)
  const sizes = trainable.map(({ name, variable }) => ({ name, size: variable.size }))
  const sharded = unitsOf(sizes, size, level < 2 ? unitFloats : streamedFloats(sizes))
  const units = level === 0 ? [] : sharded.units
  if (level === 0) trainable.forEach(place)
  else {
    for (const [i, parameter] of trainable.entries()) offsets.set(parameter, sharded.offsets[i]!)
    end = units.at(-1)?.end ?? 0
  }
  const trainableFloats = end
  parameters.filter((p) => !p.trainable).forEach(place)
  const places = parameters.map((parameter) => ({ parameter, offset: offsets.get(parameter)! }))
  return { trainableFloats, allFloats: end, places, units }
}

function view(buffer: Float32Array, { parameter, offset }: Place): Float32Array {
  return buffer.subarray(offset, offset + parameter.variable.size)
}

function describe({ parameter }: Place): { name: string; shape: readonly number[] } {
  return { name: parameter.name, shape: parameter.variable.shape }
}

const hostIsLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

/** The bytes of `data` in that order, on any host. */
export function littleEndian(data: Float32Array): Buffer {
  const bytes = Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
  return hostIsLittleEndian ? bytes : Buffer.from(bytes).swap32()
}
