/**
 * Arithmetic on float32 buffers, SIMD where both lie in one Arena, scalar elsewhere (the rule: ./simd.ts).
 * Refuses to allocate and to convert. The scalar twins are the tests' oracle too: both give the same bits.
 */
import { simdKernels } from './simd.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  add(dst: number, src: number, length: number): void
}

const simd = simdKernels<Exports>(wasm)

/** dst[i] += src[i], rounded to float32. Throws RangeError when the lengths differ. */
export function add(dst: Float32Array, src: Float32Array): void {
  const kernels = simd(dst, src)
  if (kernels) kernels.add(dst.byteOffset, src.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i]! += src[i]!
}
