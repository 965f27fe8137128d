/** int8 in blocks of 256 with one float32 scale each: 3.94 times fewer bytes, off by at most half a scale. */
import { addQuantised, dequantise, INT8_BLOCK, quantise } from '../../kernels/int8.js'
import { type Codec, scaled } from '../codec.js'

const signed = (codes: Uint8Array) => new Int8Array(codes.buffer, codes.byteOffset, codes.length)

export const int8: Codec = {
  name: 'int8',
  block: INT8_BLOCK,
  blockBytes: INT8_BLOCK + 4,
  compress(dst, src) {
    const [scales, codes] = scaled(int8, dst)
    quantise(signed(codes), scales, src)
  },
  decompress(dst, src) {
    const [scales, codes] = scaled(int8, src)
    dequantise(dst, signed(codes), scales)
  },
  accumulate(dst, src) {
    const [scales, codes] = scaled(int8, src)
    addQuantised(dst, signed(codes), scales)
  },
}
