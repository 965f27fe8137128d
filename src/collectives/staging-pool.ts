/**
 * Buffers through which numbers pass between the main thread and the worker, used again and bounded in sum.
 * It does not know what they hold.
 */

/** While buffers of this size together are in use, further operations wait: their memory would only lie in a queue. */
const IN_USE_BYTES = 256 * 1024 * 1024
/** Kept for use again, at most. */
const SPARE_BYTES = 128 * 1024 * 1024
const PAGE = 4096

export class StagingPool {
  /** Oldest first. */
  #spare: ArrayBuffer[] = []
  #spareBytes = 0
  #inUse = 0

  /** Whether `bytes` more may be taken now. A single buffer may be of any size. */
  hasRoom(bytes: number): boolean {
    return this.#inUse === 0 || this.#inUse + bytes <= IN_USE_BYTES
  }

  /** At least `bytes`, holding anything. */
  take(bytes: number): ArrayBuffer {
    // A model's buckets recur at every step: the smallest that fits, unless most of it would be wasted.
    let best = -1
    this.#spare.forEach(({ byteLength }, index) => {
      const fits = byteLength >= bytes && byteLength <= 2 * bytes + PAGE
      if (fits && (best < 0 || byteLength < this.#spare[best]!.byteLength)) best = index
    })
    const buffer =
      best < 0 ? new ArrayBuffer(Math.ceil(bytes / PAGE) * PAGE) : this.#spare.splice(best, 1)[0]!
    if (best >= 0) this.#spareBytes -= buffer.byteLength
    this.#inUse += buffer.byteLength
    return buffer
  }

  giveBack(buffer: ArrayBuffer): void {
    this.#inUse -= buffer.byteLength
    this.#spare.push(buffer)
    this.#spareBytes += buffer.byteLength
    while (this.#spareBytes > SPARE_BYTES) this.#spareBytes -= this.#spare.shift()!.byteLength
  }
}
