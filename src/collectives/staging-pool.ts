/**
 * Shared buffers through which numbers pass between the main thread and the worker, used again and bounded in sum.
 * It does not know what they hold.
 *
 * Shared, and told to the worker once by a number, not transferred with each operation: every transfer counts as
 * fresh memory in the engine's books, and a gradient's size at every step sets off full garbage collections.
 */

/** While buffers of this size together are in use, further operations wait: their memory would only lie in a queue. */
const IN_USE_BYTES = 256 * 1024 * 1024
/** Kept for use again, at most. */
const SPARE_BYTES = 128 * 1024 * 1024
const PAGE = 4096

export interface Staging {
  readonly id: number
  readonly buffer: SharedArrayBuffer
}

export class StagingPool {
  /** Oldest first. */
  readonly #spare: Staging[] = []
  #spareBytes = 0
  #inUse = 0
  #lastId = 0

  /** Whether `bytes` more may be taken now. A single buffer may be of any size. */
  hasRoom(bytes: number): boolean {
    return this.#inUse === 0 || this.#inUse + bytes <= IN_USE_BYTES
  }

  /** At least `bytes`, holding anything. `fresh` says that nobody has been told of it yet. */
  take(bytes: number): { staging: Staging; fresh: boolean } {
    const spare = this.#bestSpare(bytes)
    const staging = spare ?? {
      id: ++this.#lastId,
      buffer: new SharedArrayBuffer(Math.ceil(bytes / PAGE) * PAGE),
    }
    this.#inUse += staging.buffer.byteLength
    return { staging, fresh: spare === undefined }
  }

  /** Returns those that are not kept any more. */
  giveBack(staging: Staging): Staging[] {
    this.#inUse -= staging.buffer.byteLength
    this.#spare.push(staging)
    this.#spareBytes += staging.buffer.byteLength
    const dropped: Staging[] = []
    while (this.#spareBytes > SPARE_BYTES) dropped.push(this.#remove(0))
    return dropped
  }

  /** The smallest that fits, unless most of it would be wasted: a model's buckets recur at every step. */
  #bestSpare(bytes: number): Staging | undefined {
    let best = -1
    this.#spare.forEach(({ buffer: { byteLength } }, index) => {
      const fits = byteLength >= bytes && byteLength <= 2 * bytes + PAGE
      if (fits && (best < 0 || byteLength < this.#spare[best]!.buffer.byteLength)) best = index
    })
    return best < 0 ? undefined : this.#remove(best)
  }

  #remove(index: number): Staging {
    const [staging] = this.#spare.splice(index, 1)
    this.#spareBytes -= staging!.buffer.byteLength
    return staging!
  }
}
