/**
 * Views of the main thread's arrays in the worker, by address: nothing is copied between the two, and a rank that computes
 * need not do it. Through koffi; without it, numbers pass through staging memory.
 *
 * What makes it safe: the main thread holds on to an array as long as the worker may touch it, and an array that has been
 * given to a collective belongs to it (a buffer that is transferred away or grown meanwhile would be the caller's
 * mistake). Small arrays are refused: their bytes may lie in the engine's heap, where they move.
 */
import type { Numbers } from './communicator.js'

type Koffi = typeof import('koffi')['default']

/** Below this, copying is as fast. (Far above the 64 bytes up to which arrays live in the engine's heap.) */
const LEAST_BYTES = 64 * 1024
const KEPT_VIEWS = 64

/** Undefined where it cannot be had. */
export async function loadForeignMemory(): Promise<ForeignMemory | undefined> {
  try {
    return new ForeignMemory((await import('koffi')).default)
  } catch {
    return undefined // an optional package: staging is slower, and nothing else
  }
}

export class ForeignMemory {
  readonly #koffi: Koffi
  /** By address and length: gradients are at the same place in every step, and a new view counts as fresh memory. */
  readonly #views = new Map<string, ArrayBuffer>()

  constructor(koffi: Koffi) {
    this.#koffi = koffi
  }

  /** Where `data` lies in this process; undefined if it is too small, or may not be seen that way. */
  addressOf(data: Numbers): bigint | undefined {
    return data.byteLength < LEAST_BYTES ? undefined : this.#koffi.address(data)
  }

  /** `bytes` of this process' memory. */
  view(address: bigint, bytes: number): ArrayBuffer {
    const key = `${address} ${bytes}`
    let view = this.#views.get(key)
    if (!view) {
      view = this.#koffi.view(address, bytes)
      if (this.#views.size === KEPT_VIEWS) this.#views.clear()
      this.#views.set(key, view)
    }
    return view
  }
}
