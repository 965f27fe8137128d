/** No compression: for what a chain leaves as it is. */
import { add } from '../../kernels/kernels.js'
import type { Codec } from '../codec.js'

const floats = (bytes: Uint8Array) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)

export const float32: Codec = {
  name: 'float32',
  block: 1,
  blockBytes: 4,
  compress: (dst, src) => floats(dst).set(src),
  decompress: (dst, src) => dst.set(floats(src)),
  accumulate: (dst, src) => add(dst, floats(src)),
}
