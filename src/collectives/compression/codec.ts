/**
 * What a codec is: float32 to fewer bytes and back, a pair of pure functions. It keeps no state and knows no ranks.
 */

export interface Codec {
  readonly name: string
  /** Elements that are encoded together. Every array has a whole number of blocks. */
  readonly block: number
  /** Of one block. */
  readonly blockBytes: number
  /** dst = src, in `blockBytes` bytes a block. */
  compress(dst: Uint8Array, src: Float32Array): void
  /** dst = what src stands for. */
  decompress(dst: Float32Array, src: Uint8Array): void
  /** dst += what src stands for, rounded to float32. */
  accumulate(dst: Float32Array, src: Uint8Array): void
}

/** `length` elements, filled up to whole blocks. */
export function wholeBlocks(codec: Codec, length: number): number {
  return Math.ceil(length / codec.block) * codec.block
}

/** The bytes that `length` elements, a whole number of blocks, are compressed to. */
export function bytesOf(codec: Codec, length: number): number {
  return (length / codec.block) * codec.blockBytes
}

/**
 * The two parts of a block codec's bytes: one float32 scale for each block, then everything else.
 * `bytes` begins at a multiple of four.
 */
export function scaled(codec: Codec, bytes: Uint8Array): [scales: Float32Array, codes: Uint8Array] {
  const blocks = bytes.length / codec.blockBytes
  return [new Float32Array(bytes.buffer, bytes.byteOffset, blocks), bytes.subarray(4 * blocks)]
}
