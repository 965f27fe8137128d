/**
 * One rank's end of a group that shares memory: the control block, the buffers through which private numbers pass, and
 * the regions of users' memory that all ranks see. It hands out views; what is done with them is the collectives' part.
 */
import { bytesPerElement, type Dtype } from '../call.js'
import type { Numbers } from '../communicator.js'
import { sumOnto } from '../kernels/sums.js'
import type { Control } from './control.js'
import { type Layout, scratchOf, stageOf } from './layout.js'
import { numbersAt } from './views.js'

/** Part of one rank's memory that all ranks have mapped, side by side in one WebAssembly.Memory. */
export interface Region {
  /** Where this rank's user sees it. */
  readonly buffer: ArrayBufferLike
  readonly start: number
  readonly bytes: number
  /** Where this rank sees all ranks': that of rank r begins at `r * bytes`. */
  readonly windows: ArrayBuffer
}

/** A place in the first of some regions that follow each other: 1 + its index, and the byte in it. */
export interface Place {
  readonly region: number
  readonly offset: number
}

const PRIVATE: Place = { region: 0, offset: 0 }

/** Views of the two buffers of every rank, and of the scratch, all of `count` elements. */
export interface Buffers {
  readonly dtype: Dtype
  /** By parity, then by rank. */
  readonly stages: readonly [readonly Numbers[], readonly Numbers[]]
  readonly scratch: Numbers
  /** By parity: scratch = the sum of all ranks' buffers. Only for float32. */
  readonly sums: readonly [() => void, () => void] | undefined
}

/** Views are kept for the counts that recur; a run meets few. */
const KEPT = 256

export class Group {
  readonly regions: Region[] = []
  bytesSent = 0
  readonly #buffers = new Map<string, Buffers>()
  #last: Buffers | undefined
  #parity: 0 | 1 = 0

  constructor(
    readonly rank: number,
    readonly size: number,
    readonly control: Control,
    private readonly memory: ArrayBuffer,
    private readonly layout: Layout,
  ) {}

  /** Elements that a buffer holds. */
  capacity(dtype: Dtype): number {
    return this.layout.stageBytes / bytesPerElement(dtype)
  }

  /** Views of all buffers, `count` elements long. */
  buffers(dtype: Dtype, count: number): Buffers {
    const last = this.#last
    if (last?.scratch.length === count && last.dtype === dtype) return last
    const key = `${dtype}${count}`
    const known = this.#buffers.get(key)
    if (known) {
      this.#last = known
      return known
    }
    if (this.#buffers.size === KEPT) this.#buffers.clear()
    const at = (offset: number) => numbersAt(dtype, this.memory, offset, count)
    const ofParity = (parity: number) =>
      Array.from({ length: this.size }, (_, rank) => at(stageOf(this.layout, rank, parity)))
    const [even, odd, scratch] = [ofParity(0), ofParity(1), at(scratchOf(this.layout))]
    const sum = (stages: Numbers[]) => sumOnto(scratch as Float32Array, stages as Float32Array[])
    const sums = dtype === 'float32' ? ([sum(even), sum(odd)] as const) : undefined
    const buffers: Buffers = { dtype, stages: [even, odd], scratch, sums }
    this.#buffers.set(key, buffers)
    return buffers
  }

  /**
   * Which of the two buffers the next piece goes through: they take turns on all ranks alike, whatever the operation. With
   * one sync at least for each piece, a rank that fills a buffer again has seen all others past the reading of it.
   */
  nextParity(): 0 | 1 {
    this.#parity = this.#parity === 0 ? 1 : 0
    return this.#parity
  }

  /** Where `data` lies in the shared regions, if all of it does. */
  placeOf(data: Numbers): Place {
    const { buffer, byteOffset, byteLength } = data
    for (const [index, { buffer: shared, start, bytes }] of this.regions.entries()) {
      if (buffer !== shared || byteOffset < start || byteOffset >= start + bytes) continue
      return this.#reaches(index, byteOffset + byteLength)
        ? { region: index + 1, offset: byteOffset - start }
        : PRIVATE
    }
    return PRIVATE
  }

  /** All ranks' numbers at that place, as runs within one region each: of every run, the views by rank. */
  *windowsAt({ region, offset }: Place, dtype: Dtype, count: number): Generator<Numbers[]> {
    let left = count
    for (let index = region - 1, at = offset; left > 0; index++, at = 0) {
      const { windows, bytes } = this.regions[index]!
      const here = Math.min(left, (bytes - at) / bytesPerElement(dtype))
      yield Array.from({ length: this.size }, (_, rank) => numbersAt(dtype, windows, rank * bytes + at, here))
      left -= here
    }
  }

  /** Whether this region and those that continue it hold everything up to `end`. */
  #reaches(index: number, end: number): boolean {
    const { buffer, start, bytes } = this.regions[index]!
    if (end <= start + bytes) return true
    const next = this.regions[index + 1]
    return next?.buffer === buffer && next.start === start + bytes && this.#reaches(index + 1, end)
  }
}
