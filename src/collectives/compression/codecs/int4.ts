/**
 * int4 in blocks of 256 with one float32 scale = max|x| / 7 each: 7.76 times fewer bytes, off by at most half a scale.
 * Byte i of a block holds element i in its low half and element i + 128 in its high half. A block with a NaN or an
 * infinity comes back as NaN. SIMD in one Arena, else scalar with the same bits.
 */
import { nearest } from '../../kernels/int8.js'
import { kernelsFor } from '../binding.js'
import { type Codec, scaled } from '../codec.js'

const BLOCK = 256
const HALF = BLOCK / 2

export const int4: Codec = {
  name: 'int4',
  block: BLOCK,
  blockBytes: HALF + 4,
  compress(dst, src) {
    const [scales, codes] = scaled(int4, dst)
    const kernels = kernelsFor(src, dst)
    if (kernels) kernels.toInt4(codes.byteOffset, scales.byteOffset, src.byteOffset, src.length)
    else for (let block = 0; block < scales.length; block++) compressBlock(block, scales, codes, src)
  },
  decompress(dst, src) {
    const [scales, codes] = scaled(int4, src)
    const kernels = kernelsFor(dst, src)
    if (kernels) kernels.fromInt4(dst.byteOffset, codes.byteOffset, scales.byteOffset, dst.length)
    else for (let i = 0; i < dst.length; i++) dst[i] = elementOf(i, scales, codes)
  },
  accumulate(dst, src) {
    const [scales, codes] = scaled(int4, src)
    const kernels = kernelsFor(dst, src)
    if (kernels) kernels.addInt4(dst.byteOffset, codes.byteOffset, scales.byteOffset, dst.length)
    else for (let i = 0; i < dst.length; i++) dst[i]! += elementOf(i, scales, codes)
  },
}

function compressBlock(block: number, scales: Float32Array, codes: Uint8Array, src: Float32Array): void {
  const values = src.subarray(block * BLOCK, (block + 1) * BLOCK)
  let most = 0
  for (const value of values) most = Math.max(most, Math.abs(value))
  scales[block] = most < Number.POSITIVE_INFINITY ? most / 7 : Number.NaN
  const scale = scales[block]!
  const quantum = (i: number) => (scale > 0 ? nearest(Math.fround(values[i]! / scale)) : 0)
  for (let i = 0; i < HALF; i++) {
    codes[block * HALF + i] = (quantum(i) & 15) | ((quantum(i + HALF) & 15) << 4)
  }
}

function elementOf(i: number, scales: Float32Array, codes: Uint8Array): number {
  const [block, at] = [Math.floor(i / BLOCK), i % BLOCK]
  const pair = codes[block * HALF + (at % HALF)]!
  const code = at < HALF ? (pair << 28) >> 28 : (pair << 24) >> 28
  return Math.fround(code * scales[block]!)
}
