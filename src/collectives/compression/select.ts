/**
 * Finds the positions of the k largest magnitudes, exactly: ties go to the lower position, NaN counts as largest. A
 * sample first guesses a threshold that a few more than k elements pass, so that most are looked at once; should it
 * guess wrong, all are ranked. It refuses to sort.
 */
import { kernelsFor } from './binding.js'

const SAMPLE = 64 // one element in so many is sampled
const MAGNITUDE = 0x7fffffff
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

/** How many elements pass the guessed threshold at most. */
export const roomFor = (length: number, k: number): number =>
  Math.max(Math.min(length, 2 * k + 256), Math.ceil(length / SAMPLE))

/**
 * @param src at least `k` elements
 * @returns a view of `room.positions`: `k` positions in ascending order
 */
export function largest(src: Float32Array, k: number, room: Room): Uint32Array {
  const { positions, values } = room
  const few = Math.min(roomFor(src.length, k), positions.length)
  const guess = guessed(src, k, few, room)
  const found = guess === 0 ? few : compact(positions, src, guess, few, few)
  if (found < k || found >= few) {
    const { threshold, ties } = ranked(src, k, room.counts)
    return positions.subarray(0, compact(positions, src, threshold, ties, k))
  }
  const candidates = values.subarray(0, found)
  for (let i = 0; i < found; i++) candidates[i] = src[positions[i]!]!
  const { threshold, ties } = ranked(candidates, k, room.counts)
  return keep(positions.subarray(0, found), candidates, threshold, ties, k)
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

function compact(
  positions: Uint32Array,
  src: Float32Array,
  threshold: number,
  ties: number,
  most: number,
): number {
  const kernels = kernelsFor(src, positions)
  if (kernels) {
    return kernels.compact(positions.byteOffset, src.byteOffset, src.length, threshold, ties, most)
  }
  const bits = new Int32Array(src.buffer, src.byteOffset, src.length)
  let found = 0
  for (let i = 0; i < bits.length && found < most; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude < threshold || (magnitude === threshold && --ties < 0)) continue
    positions[found++] = i
  }
  return found
}

/** Of candidates at `positions`, those that `compact` would take, in place. */
function keep(
  positions: Uint32Array,
  candidates: Float32Array,
  threshold: number,
  ties: number,
  k: number,
): Uint32Array {
  const bits = new Int32Array(candidates.buffer, candidates.byteOffset, candidates.length)
  let kept = 0
  for (let i = 0; i < bits.length && kept < k; i++) {
    const magnitude = bits[i]! & MAGNITUDE
    if (magnitude < threshold || (magnitude === threshold && --ties < 0)) continue
    positions[kept++] = positions[i]!
  }
  return positions.subarray(0, k)
}
