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
 * time, goes through buffers of one unit, which take turns: parameters (`place`), and gradients in the room of parts that are
 * still to come (zero/units.ts, `roomFor`).
 *
 * Sharded with precision, what passes read and write is in 16 bits, and the float32 parameters that the optimizer updates are
 * spread at any level.
 */
import { createHash } from 'node:crypto'
import { Arena } from '../collectives/kernels/arena.js'
import { HALF_ARRAYS, type HalfArray, type HalfType } from '../collectives/kernels/half-arrays.js'
import { LockstepError } from '../errors.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import { layout, type Place, STATS, UNSHARDED } from './layout.js'
import type { Parameter } from './model.js'
import type { TensorRange } from './optimizers/optimizer.js'
import type { Sharding, Working } from './zero/level.js'
import type { Unit } from './zero/units.js'

export class Parameters {
  /** The trainable parameters, or this rank's parts of them: what the optimizer updates. */
  readonly trainable: Float32Array
  readonly frozen: Float32Array
  /** Stats and gradients: what the ranks reduce. On pages of its own, so that they can share them. */
  readonly reduced: Float32Array
  /** What else should be shared: whole parameters, or the buffers that they are gathered in. */
  readonly gathered: Float32Array | undefined
  readonly stats: Float32Array
  /** `reduced`, or from level 2 on `gradientShard`, summed over the micro-batches accumulated so far; always float32. */
  readonly sums: Float32Array
  /** Of all trainable parameters, or the room that units' take turns in; empty where they are in 16 bits. */
  readonly gradients: Float32Array
  /** The same as passes write them: `gradients`, or in 16 bits. */
  readonly passGradients: Working
  /** Where in it each unit's begin. */
  readonly madeAt: readonly number[]
  /** This rank's parts of the gradients, where it keeps nothing else of them: the end of `passGradients`. */
  readonly gradientShard: Working | undefined
  /** The trainable parameters as passes read them, or the buffers that units of them are gathered in. */
  readonly passParameters: Working
  /** Room for as many 16-bit numbers as are updated at a time; else empty. */
  readonly scratch: Float32Array
  /** Whether each rank has only its parts of the float32 parameters. */
  readonly isSpread: boolean
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
  private readonly morePlaces: Working[] = []
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
    const { level, size, half } = sharding
    const laidOut = layout(parameters, sharding)
    const { trainableFloats, allFloats, places, units, madeAt } = laidOut
    const { made, gathered: gatheredNumbers, turnFloats, scratch, spread } = laidOut
    const shardFloats = trainableFloats / size
    const frozenFloats = allFloats - trainableFloats
    const reducedFloats = STATS + (half ? Math.ceil(made / 2) : made)
    const gatheredFloats = half ? Math.ceil(gatheredNumbers / 2) : gatheredNumbers
    // Gradients' sums over micro-batches cost address space but no memory until used.
    const sumFloats = level < 2 ? STATS + trainableFloats : shardFloats
    const lengths = [
      ...[sumFloats, scratch],
      ...(spread ? [frozenFloats, shardFloats] : []),
      ...slotNames.map(() => (level < 1 ? trainableFloats : shardFloats)),
    ]
    const pages = Arena.bytesForPages(reducedFloats) + Arena.bytesForPages(gatheredFloats)
    const arena = new Arena(Arena.bytesFor(lengths) + pages)
    const gathered = arena.allocPages(gatheredFloats)
    this.reduced = arena.allocPages(reducedFloats)
    this.sums = arena.alloc(sumFloats)
    this.scratch = arena.alloc(scratch)
    this.gathered = level < 1 ? undefined : gathered
    this.isSpread = spread
    this.whole = spread ? undefined : gathered
    this.trainable = spread ? arena.alloc(shardFloats) : gathered.subarray(0, trainableFloats)
    this.frozen = spread ? arena.alloc(frozenFloats) : gathered.subarray(trainableFloats)
    this.stats = this.reduced.subarray(0, STATS)
    this.gradients = half ? new Float32Array() : this.reduced.subarray(STATS)
    this.passGradients = half ? inHalf(this.reduced.subarray(STATS), half, made) : this.gradients
    this.passParameters = half ? inHalf(gathered, half, gatheredNumbers) : gathered
    this.gradientShard = level < 2 ? undefined : this.passGradients.subarray(made - shardFloats)
    this.slots = slotNames.map(() => arena.alloc(level < 1 ? trainableFloats : shardFloats))
    this.units = units
    this.madeAt = madeAt
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
    const { level, half } = this.sharding
    throw new LockstepError(
      half && level < 3
        ? `with zero ${level} and precision ${half} each rank holds a part of the float32 parameters: call await ddp.gather() ` +
            'on all ranks first'
        : 'with zero 3 each rank holds a part of the parameters: call await ddp.gather() on all ranks first',
    )
  }

  /** Spread parameters: all parameters, while somebody needs them; undefined: no longer. */
  set values(whole: Float32Array | undefined) {
    this.whole = whole
  }

  get isWhole(): boolean {
    return this.whole !== undefined
  }

  /** Bytes that this rank holds of parameters, gradients and optimizer state; `accumulating`: with sums of gradients. */
  bytes(accumulating: boolean): number {
    const { reduced, sums, gathered, whole, trainable, frozen, scratch, slots } = this
    const parts = [
      reduced,
      ...(accumulating ? [sums] : []),
      ...(this.isSpread ? [gathered, ...this.morePlaces, whole, trainable, frozen, scratch] : [whole]),
      ...slots,
    ]
    return parts.reduce((bytes, part) => bytes + (part?.byteLength ?? 0), 0)
  }

  /** Views of the parameters, trainable then frozen: the order in which programs take them. */
  views(): Float32Array[] {
    return this.ordered().map((place) => view(this.values, place))
  }

  /** Views of what passes read, in the same order; at level 3, where trainable parameters come and go, empty ones of those. */
  passViews(): Working[] {
    const { length } = this.tensors
    const none = this.passParameters.subarray(0, 0)
    if (!this.isSpread) return this.views()
    const trainable = this.ordered().slice(0, length)
    const working = trainable.map((place) =>
      this.sharding.level < 3 ? view(this.passParameters, place) : none,
    )
    return [...working, ...this.frozenViews()]
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
   * Views of the trainable parameters' gradients, in the same order, where they are float32. Where units take turns, from the
   * last to the first, some of them overlap.
   */
  gradientViews(): Float32Array[] {
    return this.passGradientViews() as Float32Array[]
  }

  /** The same in whatever passes write them. */
  passGradientViews(): Working[] {
    const { passGradients, units, madeAt, sharding } = this
    const places = this.ordered().filter(({ parameter }) => parameter.trainable)
    if (sharding.level < 2) return places.map((place) => view(passGradients, place))
    return units.flatMap(({ start, tensors }, i) =>
      tensors.map((position) => {
        const { parameter, offset } = places[position]!
        return view(passGradients, { parameter, offset: madeAt[i]! + offset - start })
      }),
    )
  }

  /** A buffer for one whole unit at a time: as many as take turns, and more if asked for. */
  place(i: number): Working {
    const { passParameters, turnFloats, sharding, morePlaces } = this
    if (i < sharding.turns) return passParameters.subarray(i * turnFloats, (i + 1) * turnFloats)
    morePlaces[i] ??= new (sharding.half ? HALF_ARRAYS[sharding.half] : Float32Array)(turnFloats)
    return morePlaces[i]
  }

  /** The trainable parameter at `position` while its unit is at a place. */
  viewAt(position: number, place: number): Working {
    const { start, end } = this.tensors[position]!
    const unit = this.units.find(({ tensors }) => tensors.includes(position))!
    return this.place(place).subarray(start - unit.start, end - unit.start)
  }

  /** Copies the TensorFlow.js variables' values in, where parameters are spread those of frozen ones. */
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

/** `length` 16-bit numbers in the room of `floats`. */
function inHalf({ buffer, byteOffset }: Float32Array, half: HalfType, length: number): HalfArray {
  return new HALF_ARRAYS[half](buffer as ArrayBuffer, byteOffset, length)
}

function view<T extends Working>(buffer: T, { parameter, offset }: Place): T {
  return buffer.subarray(offset, offset + parameter.variable.size) as T
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
