/**
 * Sums of any number of float32 buffers, always in the order given and rounded to float32 after every addition:
 * whoever computes them gets the same bits. Up to four are read in one pass. SIMD where all lie in one Arena.
 */
import { simd } from './binding.js'
import { add } from './kernels.js'

/** Floats of each buffer that are summed at a time, so that partial sums stay in the first-level cache. */
const BLOCK = 2048

type Few = [Float32Array, Float32Array?, Float32Array?, Float32Array?]

/**
 * dst[i] = buffers[0][i] + buffers[1][i] + …, where `dst` may be one of the first four buffers.
 * @throws RangeError when lengths differ.
 */
export function sumInto(dst: Float32Array, buffers: readonly Float32Array[]): void {
  const kernels = simd(dst, ...buffers)
  const [a, b, c, d] = buffers as Few
  if (buffers.length > 4) inBlocks([dst, ...buffers], ([to, ...parts]) => sumMany(to!, parts))
  else if (!kernels) sumScalar(dst, buffers)
  else if (d) kernels.sum4(at(dst), at(a), at(b!), at(c!), at(d), dst.length)
  else if (c) kernels.sum3(at(dst), at(a), at(b!), at(c), dst.length)
  else if (b) kernels.sum2(at(dst), at(a), at(b), dst.length)
  else dst.set(a)
}

/** `sumInto` for these buffers again and again: what can be looked up before is. */
export function sumOnto(dst: Float32Array, buffers: readonly Float32Array[]): () => void {
  const kernels = simd(dst, ...buffers)
  const [a, b, c, d] = buffers.map(at) as [number, number, number, number]
  const [to, { length }] = [at(dst), dst]
  if (kernels && buffers.length === 2) return () => kernels.sum2(to, a, b, length)
  if (kernels && buffers.length === 3) return () => kernels.sum3(to, a, b, c, length)
  if (kernels && buffers.length === 4) return () => kernels.sum4(to, a, b, c, d, length)
  return () => sumInto(dst, buffers)
}

/**
 * Every buffer becomes the sum of all: what each rank does to its slice of all ranks' gradients.
 * @throws RangeError when lengths differ.
 */
export function sumAll(buffers: readonly Float32Array[]): void {
  const kernels = simd(...buffers)
  const [a, b, c, d] = buffers as Few
  if (!kernels || buffers.length > 4) inBlocks(buffers, sumAndSpread)
  else if (d) kernels.sumAll4(at(a), at(b!), at(c!), at(d), a.length)
  else if (c) kernels.sumAll3(at(a), at(b!), at(c), a.length)
  else if (b) kernels.sumAll2(at(a), at(b), a.length)
}

const at = ({ byteOffset }: Float32Array): number => byteOffset

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
