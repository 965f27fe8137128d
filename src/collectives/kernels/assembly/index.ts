// SIMD kernels over float32 buffers in the imported memory. Arguments are byte offsets and element counts that
// ../kernels.ts has checked. Each has a scalar twin there, and gives exactly its bits. AssemblyScript, not TypeScript.

/** dst[i] += src[i] */
export function add(dst: usize, src: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.add(v128.load(dst + i), v128.load(src + i)))
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, load<f32>(dst + i) + load<f32>(src + i))
}
