/** float16 and bfloat16: two bytes an element, each rounded by itself. */
import {
  addBfloat16,
  addFloat16,
  fromBfloat16,
  fromFloat16,
  toBfloat16,
  toFloat16,
} from '../../kernels/half.js'
import type { Codec } from '../codec.js'

const words = (bytes: Uint8Array) => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)

/** 11 significant bits; magnitudes above 65,504 become infinite and are reported as such. */
export const float16: Codec = {
  name: 'float16',
  block: 2, // so that whatever follows begins at a multiple of four bytes
  blockBytes: 4,
  compress: (dst, src) => toFloat16(words(dst), src),
  decompress: (dst, src) => fromFloat16(dst, words(src)),
  accumulate: (dst, src) => addFloat16(dst, words(src)),
}

/** 8 significant bits over float32's whole range. */
export const bfloat16: Codec = {
  name: 'bfloat16',
  block: 2,
  blockBytes: 4,
  compress: (dst, src) => toBfloat16(words(dst), src),
  decompress: (dst, src) => fromBfloat16(dst, words(src)),
  accumulate: (dst, src) => addBfloat16(dst, words(src)),
}
