/**
 * Flat float32 buffers for parameters, gradients and optimizer state, all in one WebAssembly.Memory, where the SIMD
 * kernels reach them and onnxruntime can write. Refuses to grow (growing detaches every view) and to free.
 */
import { LockstepError } from '../../errors.js'

const ALIGNMENT = 64 // bytes: one cache line, and what the widest vector loads like best
const PAGE = 65_536
const MAX_PAGES = 65_536 // 4 GiB: a 32-bit WebAssembly.Memory addresses no more

const memories = new WeakMap<ArrayBufferLike, WebAssembly.Memory>()

/** The memory of the arena that `buffer` belongs to; undefined for any other buffer. */
export function memoryOf(buffer: ArrayBufferLike): WebAssembly.Memory | undefined {
  return memories.get(buffer)
}

/** A memory of fixed size that hands out zeroed Float32Arrays, one after the other. */
export class Arena {
  readonly memory: WebAssembly.Memory
  #used = 0

  /** The bytes an arena needs for buffers of these lengths (in floats), alignment included. */
  static bytesFor(lengths: readonly number[]): number {
    return lengths.reduce((bytes, floats) => bytes + aligned(floats), 0)
  }

  /** The same for one buffer on pages of its own, wherever it begins. */
  static bytesForPages(floats: number): number {
    return aligned(floats, PAGE) + PAGE
  }

  /** @throws LockstepError when `bytes` is more than 4 GiB, or more than this process can get. */
  constructor(bytes: number) {
    const pages = Math.ceil(bytes / PAGE)
    if (pages > MAX_PAGES) {
      throw new LockstepError(
        `the model needs ${gib(bytes)} for its parameters, gradients and optimizer state, and one rank can hold ` +
          `4 GiB: use a smaller model, or an optimizer with less state (sgd: none, momentum: 1 buffer, adam: 2)`,
      )
    }
    try {
      this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    } catch (cause) {
      throw new LockstepError(
        `cannot reserve ${gib(bytes)} for parameters, gradients and optimizer state: ${(cause as Error).message}; ` +
          'start fewer ranks on this machine, or raise the memory limit of the process (ulimit -v)',
        { cause },
      )
    }
    memories.set(this.memory.buffer, this.memory)
  }

  /**
   * `floats` zeroed float32, starting at a multiple of 64 bytes. The view stays valid as long as it is referenced.
   * @throws LockstepError when the arena has no room left for it.
   */
  alloc(floats: number): Float32Array {
    return this.#take(floats, ALIGNMENT)
  }

  /** As `alloc`, on whole pages of its own (64 KiB ones), so that they can be shared with other processes. */
  allocPages(floats: number): Float32Array {
    this.#used = Math.ceil(this.#used / PAGE) * PAGE
    return this.#take(floats, PAGE)
  }

  #take(floats: number, alignment: number): Float32Array {
    const bytes = aligned(floats, alignment)
    const free = this.memory.buffer.byteLength - this.#used
    if (bytes > free) {
      throw new LockstepError(
        `the arena has no room for ${floats} floats (${bytes} bytes): ${free} of its ` +
          `${this.memory.buffer.byteLength} bytes are free; size it with Arena.bytesFor(lengths)`,
      )
    }
    const view = new Float32Array(this.memory.buffer, this.#used, floats)
    this.#used += bytes
    return view
  }
}

function aligned(floats: number, alignment = ALIGNMENT): number {
  return Math.ceil((floats * Float32Array.BYTES_PER_ELEMENT) / alignment) * alignment
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`
}
