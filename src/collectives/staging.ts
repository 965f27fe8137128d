/**
 * The memory through which numbers pass between the main thread and the worker: shared, of fixed size, told to the worker
 * once. It does not know what its pieces hold.
 *
 * Its pages are taken from the system when they are first touched. Nothing is transferred with an operation: every
 * transfer counts as fresh memory in the engine's books, and a gradient's size at every step sets off full garbage
 * collections.
 */
export const STAGING_BYTES = 256 * 1024 * 1024
const ALIGNMENT = 64

interface Range {
  start: number
  end: number
}

/** Hands out pieces, the lowest that are free first: so no more pages are touched than were in use at once. */
export class Staging {
  /** In order, never adjacent. */
  readonly #free: Range[]

  constructor(bytes: number = STAGING_BYTES) {
    this.#free = [{ start: 0, end: bytes }]
  }

  /** Where `bytes` are free, now taken; undefined: nowhere at the moment. */
  take(bytes: number): number | undefined {
    const wanted = aligned(bytes)
    const index = this.#free.findIndex(({ start, end }) => end - start >= wanted)
    if (index < 0) return undefined
    const range = this.#free[index]!
    const { start } = range
    range.start += wanted
    if (range.start === range.end) this.#free.splice(index, 1)
    return start
  }

  giveBack(start: number, bytes: number): void {
    const end = start + aligned(bytes)
    if (end === start) return
    let index = this.#free.findIndex((range) => range.start >= end)
    if (index < 0) index = this.#free.length
    const [before, after] = [this.#free[index - 1], this.#free[index]]
    const joined = {
      start: before?.end === start ? before.start : start,
      end: after?.start === end ? after.end : end,
    }
    const first = before?.end === start ? index - 1 : index
    const last = after?.start === end ? index + 1 : index
    this.#free.splice(first, last - first, joined)
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}
