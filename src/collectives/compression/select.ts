/**
 * Finds the k largest magnitudes of a tensor, exactly: ties go to the lower position, NaN counts as largest. Most elements are
 * looked at once, while they are in the cache: those that pass what the last steps' thresholds suggest are candidates.
 * Where these are too few or too many a sample guesses a threshold, and should it guess wrong, all are ranked. It refuses to sort.
 */
import { kernelsFor } from './binding.js'

const SAMPLE = 64 // one element in so many is sampled
const MAGNITUDE = 0x7fffffff
const OCTAVE = 1 << 23 // from a magnitude's bits to those of its double
/** The magnitude's 31 bits, ranked 11, 10 and 10 at a time. */
const PASSES = [
  { shift: 20, bits: 11 },
  { shift: 10, bits: 10 },
  { shift: 0, bits: 10 },
] as const

/** Room that a selection of up to `k` from up to `length` elements needs, all in the same Arena as the elements. */
export interface Room {
  /** 2048. */
  readonly counts: Uint32Array
  /** `roomFor(k)` each. */
  readonly positions: Uint32Array
  readonly values: Float32Array
}

/** What was found, in ascending order of positions: views of a room. */
export interface Picks {
  readonly positions: Uint32Array
  readonly values: Float32Array
}

/** How many candidates there are at most. */
export const roomFor = (length: number, k: number): number =>
  Math.max(Math.min(length, 3 * k + 256), Math.ceil(length / SAMPLE))

/** Selects from one tensor, step after step; several may share a room, one after the other. */
export class Selection {
  /** Magnitude bits that candidates reach; 0: there are none. */
  private guess = 0
  /** From the last threshold to them: where half as many again as are wanted pass, also while tensors grow or shrink. */
  private ahead = -OCTAVE / 8
  private found = 0
  private few = 0

  constructor(private readonly room: Room) {}

  /** @param k of at least as many elements `length` */
  begin(length: number, k: number): void {
    this.found = 0
    this.few = Math.min(roomFor(length, k), this.room.positions.length)
  }

  /** The tensor's elements from `start` on, each once and in order. */
  look(part: Float32Array, start: number): void {
    if (this.guess > 0)
      this.found += compact(this.room, this.found, part, start, this.guess, this.few, this.few)
  }

  /** @param src the tensor, all of which has been looked at */
  largest(src: Float32Array, k: number): Picks {
    if (this.guess > 0) this.ahead += (Math.log2(Math.max(this.found / (1.5 * k), 0.5)) * OCTAVE) / 16
    if (this.found < k || this.found >= this.few) {
      const guess = guessed(src, k, this.few, this.room)
      this.found = guess === 0 ? this.few : compact(this.room, 0, src, 0, guess, this.few, this.few)
    }
    const { room, found, few } = this
    const fits = found >= k && found < few
    const { threshold, ties } = ranked(fits ? room.values.subarray(0, found) : src, k, room.counts)
    this.guess = Math.max(1, Math.round(threshold + this.ahead))
    if (fits) keep(room, found, threshold, ties)
    else compact(room, 0, src, 0, threshold, ties, k)
    return { positions: room.positions.subarray(0, k), values: room.values.subarray(0, k) }
  }
}

/** Magnitude bits that about halfway between k and `few` elements reach; 0 when a sample cannot tell. */
function guessed(src: Float32Array, k: number, few: number, { values, counts }: Room): number {
  const sample = values.subarray(0, Math.floor(src.length / SAMPLE))
  const wanted = Math.floor((k + few) / 2 / SAMPLE)
  if (wanted < 32 || wanted >= sample.length) return 0
  for (let i = 0; i < sample.length; i++) sample[i] = src[i * SAMPLE]!
  return ranked(sample, wanted, counts).threshold
}

/** The magnitude bits of the k-th largest, and how many elements with just these bits are among the k. */
function ranked(src: Float32Array, k: number, counts: Uint32Array): { threshold: number; ties: number } {
  let [prefix, wanted] = [0, k]
  for (const pass of PASSES) {
    counts.fill(0)
    count(counts, src, pass, prefix)
    let digit = 2 ** pass.bits - 1
    for (; counts[digit]! < wanted; digit--) wanted -= counts[digit]!
    prefix = prefix * 2 ** pass.bits + digit
  }
  return { threshold: prefix, ties: wanted }
}

/** Counts the digits, what `mask` leaves of the bits above `shift`, of elements whose bits above `prefixShift` are `prefix`. */
function count(
  counts: Uint32Array,
  src: Float32Array,
  { shift, bits }: { readonly shift: number; readonly bits: number },
  prefix: number,
): void {
  const [mask, prefixShift] = [2 ** bits - 1, shift + bits]
  const kernels = kernelsFor(src, counts)
  if (kernels) {
    kernels.histogram(counts.byteOffset, src.byteOffset, src.length, shift, mask, prefix, prefixShift)
    return
  }
  for (const each of new Int32Array(src.buffer, src.byteOffset, src.length)) {
    const magnitude = each & MAGNITUDE
    if (magnitude >>> prefixShift === prefix) counts[(magnitude >>> shift) & mask]!++
  }
}

/**
 * Puts what passes `threshold`, and the first `ties` that equal it, into the room behind the `at` that are there, up to `most`
 * in all. Positions are counted from `first`. @returns how many came
 */
function compact(
  room: Room,
  at: number,
  src: Float32Array,
  first: number,
  threshold: number,
  ties: number,
  most: number,
): number {
  const [positions, values, left] = [room.positions.subarray(at), room.values.subarray(at), most - at]
  const kernels = kernelsFor(src, positions)
  if (kernels) {
    const [to, from] = [positions.byteOffset, src.byteOffset]
    return kernels.compact(to, values.byteOffset, from, src.length, first, threshold, ties, left)
  }
  const bits = new Int32Array(src.buffer, src.byteOffset, src.length)
  let found = 0
  for (let i = 0; i < bits.length && found < left; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude < threshold || (magnitude === threshold && --ties < 0)) continue
    positions[found] = first + i
    values[found++] = src[i]!
  }
  return found
}

/** Of `found` candidates, those that `compact` would take, in place. */
function keep({ positions, values }: Room, found: number, threshold: number, ties: number): void {
  const bits = new Int32Array(values.buffer, values.byteOffset, found)
  let kept = 0
  for (let i = 0; i < found; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude < threshold || (magnitude === threshold && --ties < 0)) continue
    positions[kept] = positions[i]!
    bits[kept++] = bits[i]!
  }
}
