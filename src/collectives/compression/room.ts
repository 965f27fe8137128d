/** Working memory of one compressed sum: typed arrays side by side in one Arena, where the SIMD kernels reach them. */
import { Arena } from '../kernels/arena.js'

/** As many elements of each as asked for, zeroed, each at a multiple of 64 bytes. */
export function floatsAndBytes(
  floats: readonly number[],
  bytes: readonly number[],
): { readonly floats: Float32Array[]; readonly bytes: Uint8Array[] } {
  const lengths = [...floats, ...bytes.map((length) => Math.ceil(length / 4))]
  const arena = new Arena(Arena.bytesFor(lengths))
  return {
    floats: floats.map((length) => arena.alloc(length)),
    bytes: bytes.map((length) => {
      const words = arena.alloc(Math.ceil(length / 4))
      return new Uint8Array(words.buffer, words.byteOffset, length)
    }),
  }
}

/** Floats that stay in a core's cache while several things are done with them. */
export const BLOCK_FLOATS = 16 * 1024

/**
 * Copies `source` into `block`, as much as it holds at a time, and shows each part, with where it begins: numbers from elsewhere
 * are then where the SIMD kernels reach them, and have not left the cache.
 */
export function eachBlock(
  source: Float32Array,
  block: Float32Array,
  visit: (part: Float32Array, start: number) => void,
): void {
  for (let start = 0; start < source.length; start += block.length) {
    const part = block.subarray(0, Math.min(block.length, source.length - start))
    part.set(source.subarray(start, start + part.length))
    visit(part, start)
  }
}
