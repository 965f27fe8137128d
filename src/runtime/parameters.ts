/**
 * Parameters, gradients and optimizer state in flat buffers of one arena, and each tensor's place in them.
 * It knows offsets and names; it computes nothing.
 *
 *   gradients   [ stats 16 | trainable tensors, each padded to 64 bytes ]
 *   parameters             [ trainable tensors, the same way            | frozen tensors ]
 *   slots                  [ trainable tensors, the same way            ]   one buffer per optimizer slot
 *
 * The stats (loss and sample count) lie before the gradients so that they travel in the first bucket.
 */
import { createHash } from 'node:crypto'
import { Arena } from '../collectives/kernels/arena.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import type { Parameter } from './model.js'
import type { TensorRange } from './optimizers/optimizer.js'

/** Floats before the first gradient; a multiple of 16 keeps every tensor on a cache line. */
export const STATS = 16

const padded = (floats: number): number => Math.ceil(floats / 16) * 16

interface Place {
  readonly parameter: Parameter
  readonly offset: number
}

export class Parameters {
  /** All parameters: trainable tensors, then frozen ones. */
  readonly values: Float32Array
  /** The trainable part of `values`: what the optimizer updates. */
  readonly trainable: Float32Array
  /** Stats and gradients: what the ranks reduce. On pages of its own, so that they can share them. */
  readonly reduced: Float32Array
  readonly stats: Float32Array
  /** `reduced`, summed over the micro-batches accumulated so far. */
  readonly sums: Float32Array
  /** As long as `trainable`. */
  readonly gradients: Float32Array
  readonly slots: readonly Float32Array[]
  /** What lies where in `trainable`, in ascending order. */
  readonly tensors: readonly TensorRange[]
  private readonly places: readonly Place[]
  private readonly slotNames: readonly string[]

  /** @throws LockstepError when the model does not fit into one arena. */
  constructor(parameters: readonly Parameter[], slotNames: readonly string[]) {
    const [trainableFloats, allFloats, places] = layout(parameters)
    const reducedFloats = STATS + trainableFloats
    // Twice: gradients, and their sums over micro-batches, which cost address space but no memory until used.
    const lengths = [allFloats, reducedFloats, ...slotNames.map(() => trainableFloats)]
    const arena = new Arena(Arena.bytesFor(lengths) + Arena.bytesForPages(reducedFloats))
    this.values = arena.alloc(allFloats)
    this.trainable = this.values.subarray(0, trainableFloats)
    this.reduced = arena.allocPages(reducedFloats)
    this.sums = arena.alloc(reducedFloats)
    this.stats = this.reduced.subarray(0, STATS)
    this.gradients = this.reduced.subarray(STATS)
    this.slots = slotNames.map(() => arena.alloc(trainableFloats))
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

  /** Views of the parameters, trainable then frozen: the order in which programs take them. */
  views(): Float32Array[] {
    return this.ordered().map((place) => view(this.values, place))
  }

  /** Views of the trainable parameters' gradients, in the same order. */
  gradientViews(): Float32Array[] {
    return this.ordered()
      .filter(({ parameter }) => parameter.trainable)
      .map((place) => view(this.gradients, place))
  }

  /** Copies the TensorFlow.js variables' values in. */
  readModel(): void {
    for (const place of this.places)
      view(this.values, place).set(place.parameter.variable.dataSync() as Float32Array)
  }

  /** Every parameter in model order, as views. */
  modelTensors(): NamedTensor[] {
    return this.places.map((place) => ({ ...describe(place), data: view(this.values, place) }))
  }

  /** The optimizer's state of every trainable parameter, `slot/parameter`, as views. */
  optimizerTensors(): NamedTensor[] {
    return this.slotNames.flatMap((slot, i) =>
      this.places
        .filter(({ parameter }) => parameter.trainable)
        .map((place) => {
          const { name, shape } = describe(place)
          return { name: `${slot}/${name}`, shape, data: view(this.slots[i]!, place) }
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

/** Trainable tensors from 0 on, frozen ones after them; places in model order. */
function layout(parameters: readonly Parameter[]): [trainable: number, all: number, places: Place[]] {
  const offsets = new Map<Parameter, number>()
  let end = 0
  const place = (parameter: Parameter) => {
    offsets.set(parameter, end)
    end += padded(parameter.variable.size)
  }
  parameters.filter((p) => p.trainable).forEach(place)
  const trainable = end
  parameters.filter((p) => !p.trainable).forEach(place)
  return [trainable, end, parameters.map((parameter) => ({ parameter, offset: offsets.get(parameter)! }))]
}

function view(buffer: Float32Array, { parameter, offset }: Place): Float32Array {
  return buffer.subarray(offset, offset + parameter.variable.size)
}

function describe({ parameter }: Place): { name: string; shape: readonly number[] } {
  return { name: parameter.name, shape: parameter.variable.shape }
}

const hostIsLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

function littleEndian(data: Float32Array): Buffer {
  const bytes = Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
  return hostIsLittleEndian ? bytes : Buffer.from(bytes).swap32()
}
