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
