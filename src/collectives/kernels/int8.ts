/**
 * float32 to and from int8 in blocks of 256, each with one float32 scale: x ≈ q × scale, scale = max|x| / 127.
 * SIMD where all buffers lie in one Arena, else scalar with the same bits. It refuses to be exact: the error is at
 * most half a scale. A block that holds a NaN or an infinity comes back as NaN: it must not be lost.
 */
import { simd } from './binding.js'

/** Elements that share a scale. */
export const INT8_BLOCK = 256

/** How many scales go with `length` elements. */
export function int8Scales(length: number): number {
  return Math.ceil(length / INT8_BLOCK)
}

/** Quantises `src` into `dst` and, one per block, `scales`. @throws RangeError when lengths do not match. */
export function quantise(dst: Int8Array, scales: Float32Array, src: Float32Array): void {
  const kernels = bound(src, dst, scales)
  if (kernels) kernels.quantise(dst.byteOffset, scales.byteOffset, src.byteOffset, src.length)
  else for (let block = 0; block < scales.length; block++) quantiseBlock(block, dst, scales, src)
}

/** dst[i] = src[i] × scale of its block. @throws RangeError when lengths do not match. */
export function dequantise(dst: Float32Array, src: Int8Array, scales: Float32Array): void {
  const kernels = bound(dst, src, scales)
  if (kernels) kernels.dequantise(dst.byteOffset, src.byteOffset, scales.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = src[i]! * scales[blockOf(i)]!
}

/** dst[i] += src[i] × scale of its block, each rounded to float32. @throws RangeError when lengths do not match. */
export function addQuantised(dst: Float32Array, src: Int8Array, scales: Float32Array): void {
  const kernels = bound(dst, src, scales)
  if (kernels) kernels.addQuantised(dst.byteOffset, src.byteOffset, scales.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! += Math.fround(src[i]! * scales[blockOf(i)]!)
}

function bound(floats: Float32Array, quantised: Int8Array, scales: Float32Array) {
  if (scales.length !== int8Scales(floats.length)) {
    throw new RangeError(
      `${floats.length} elements have ${int8Scales(floats.length)} scales, not ${scales.length}`,
    )
  }
  const kernels = simd(floats, quantised)
  return scales.buffer === floats.buffer ? kernels : undefined
}

function quantiseBlock(block: number, dst: Int8Array, scales: Float32Array, src: Float32Array): void {
  const values = src.subarray(block * INT8_BLOCK, (block + 1) * INT8_BLOCK)
  let most = 0
  for (const value of values) most = Math.max(most, Math.abs(value))
  scales[block] = most < Number.POSITIVE_INFINITY ? most / 127 : Number.NaN
  const scale = scales[block]!
  values.forEach((value, i) => {
    const quantum = scale > 0 ? nearest(Math.fround(value / scale)) : 0
    dst[block * INT8_BLOCK + i] = Math.max(-128, Math.min(127, quantum))
  })
}

function blockOf(index: number): number {
  return Math.floor(index / INT8_BLOCK)
}

/** The nearest whole number, the even one of two. */
export function nearest(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1
  return Math.round(x)
}
