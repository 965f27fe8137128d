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
const HUGE_PAGE = 2n ** 21n
/** Linux's number (sys/mman.h, since 6.1): puts huge pages in the place of small ones, whatever the system does by default. */
const MADV_COLLAPSE = 25

interface View {
  readonly memory: ArrayBuffer
  /** Has been asked for again. */
  again: boolean
}

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
  /** Not on other systems than Linux. */
  readonly #madvise: ((address: bigint, bytes: bigint, advice: number) => number) | undefined
  /** By address and length: gradients are at the same place in every step, and a new view counts as fresh memory. */
  readonly #views = new Map<string, View>()

  constructor(koffi: Koffi) {
    this.#koffi = koffi
    if (process.platform === 'linux') {
      this.#madvise = koffi.load(null).func('int madvise(uintptr_t address, size_t bytes, int advice)')
    }
  }

  /** Where `data` lies in this process; undefined if it is too small, or may not be seen that way. */
  addressOf(data: Numbers): bigint | undefined {
    return data.byteLength < LEAST_BYTES ? undefined : this.#koffi.address(data)
  }

  /** `bytes` of this process' memory. What comes again is put on huge pages: sockets copy it to and from those faster. */
  view(address: bigint, bytes: number): ArrayBuffer {
    const key = `${address} ${bytes}`
    let view = this.#views.get(key)
    if (!view) {
      view = { memory: this.#koffi.view(address, bytes), again: false }
      if (this.#views.size === KEPT_VIEWS) this.#views.clear()
      this.#views.set(key, view)
    } else if (!view.again) {
      view.again = true
      this.#collapse(address, address + BigInt(bytes))
    }
    return view.memory
  }

  /** A kernel that cannot leaves everything as it is. */
  #collapse(start: bigint, end: bigint): void {
    const first = ((start + HUGE_PAGE - 1n) / HUGE_PAGE) * HUGE_PAGE
    const bytes = (end / HUGE_PAGE) * HUGE_PAGE - first
    if (bytes > 0n) this.#madvise?.(first, bytes, MADV_COLLAPSE)
  }
}
