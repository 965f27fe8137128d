/**
 * Arithmetic on float32 buffers, SIMD where both lie in one Arena, scalar elsewhere (the rule: ./simd.ts).
 * Refuses to allocate and to convert. The scalar twins are the tests' oracle too: both give the same bits.
 * All throw RangeError when the lengths differ.
 */
import { simd } from './binding.js'

/** dst[i] += src[i], rounded to float32. */
export function add(dst: Float32Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.add(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! += src[i]!
}

/** dst[i] = min(dst[i], src[i]); NaN if either is one. */
export function minimum(dst: Float32Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.minimum(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = Math.min(dst[i]!, src[i]!)
}

/** dst[i] = max(dst[i], src[i]); NaN if either is one. */
export function maximum(dst: Float32Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.maximum(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = Math.max(dst[i]!, src[i]!)
}

/** dst[i] *= src[i], rounded to float32. */
export function multiply(dst: Float32Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.multiply(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! *= src[i]!
}

/** dst[i] /= divisor, which is rounded to float32 first: what makes a mean of a sum. */
export function divide(dst: Float32Array, divisor: number): void {
  const kernels = simd(dst)
  const rounded = Math.fround(divisor)
  if (kernels) kernels.divide(dst.byteOffset, rounded, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! /= rounded
}
