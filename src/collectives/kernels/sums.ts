/**
 * Sums of any number of float32 buffers, always in the order given and rounded to float32 after every addition:
 * whoever computes them gets the same bits. Up to four are read in one pass. SIMD where all lie in one Arena.
 */
import { simd } from './binding.js'
import { add } from './kernels.js'

/** Floats of each buffer that are summed at a time, so that partial sums stay in the first-level cache. */
const BLOCK = 2048

type Offsets = [number, number, number, number]

/**
 * dst[i] = buffers[0][i] + buffers[1][i] + …, where `dst` may be one of the first four buffers.
 * @throws RangeError when lengths differ.
 */
export function sumInto(dst: Float32Array, buffers: readonly Float32Array[]): void {
  const kernels = simd(dst, ...buffers)
  const [a, b, c, d] = buffers.map(({ byteOffset }) => byteOffset) as Offsets
  if (buffers.length > 4) inBlocks([dst, ...buffers], ([to, ...parts]) => sumMany(to!, parts))
  else if (!kernels) sumScalar(dst, buffers)
  else if (buffers.length === 4) kernels.sum4(dst.byteOffset, a, b, c, d, dst.length)
  else if (buffers.length === 3) kernels.sum3(dst.byteOffset, a, b, c, dst.length)
  else if (buffers.length === 2) kernels.sum2(dst.byteOffset, a, b, dst.length)
  else dst.set(buffers[0]!)
}

/**
 * Every buffer becomes the sum of all: what each rank does to its slice of all ranks' gradients.
 * @throws RangeError when lengths differ.
 */
export function sumAll(buffers: readonly Float32Array[]): void {
  const kernels = simd(...buffers)
  const [a, b, c, d] = buffers.map(({ byteOffset }) => byteOffset) as Offsets
  const { length } = buffers[0]!
  if (!kernels || buffers.length > 4) inBlocks(buffers, sumAndSpread)
  else if (buffers.length === 4) kernels.sumAll4(a, b, c, d, length)
  else if (buffers.length === 3) kernels.sumAll3(a, b, c, length)
  else if (buffers.length === 2) kernels.sumAll2(a, b, length)
}

function sumMany(dst: Float32Array, buffers: readonly Float32Array[]): void {
  sumInto(dst, buffers.slice(0, 4))
  for (const buffer of buffers.slice(4)) add(dst, buffer)
}

function sumAndSpread(buffers: readonly Float32Array[]): void {
  const [first, ...others] = buffers
  sumInto(first!, buffers)
  for (const other of others) other.set(first!)
}

function sumScalar(dst: Float32Array, buffers: readonly Float32Array[]): void {
  const [first, ...others] = buffers
  for (let i = 0; i < dst.length; i++) {
    let sum = first![i]!
    for (const other of others) sum = Math.fround(sum + other[i]!)
    dst[i] = sum
  }
}

function inBlocks(buffers: readonly Float32Array[], work: (parts: Float32Array[]) => void): void {
  for (let at = 0; at < buffers[0]!.length; at += BLOCK) {
    work(buffers.map((buffer) => buffer.subarray(at, at + BLOCK)))
  }
}
