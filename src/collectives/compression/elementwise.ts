/** Arithmetic that error feedback needs: SIMD in one Arena, else scalar with the same bits. */
import { kernelsFor } from './binding.js'

/** dst = a - b; all as long as `dst`. */
export function subtract(dst: Float32Array, a: Float32Array, b: Float32Array): void {
  const kernels = kernelsFor(dst, a, b)
  if (kernels) kernels.subtract(dst.byteOffset, a.byteOffset, b.byteOffset, dst.length)
  else for (let i = 0; i < dst.length; i++) dst[i] = a[i]! - b[i]!
}

/** u = momentum × u + g, then v += u, each operation rounded to float32; all as long as `u`. */
export function accelerate(u: Float32Array, v: Float32Array, g: Float32Array, momentum: number): void {
  const factor = Math.fround(momentum)
  const kernels = kernelsFor(u, v, g)
  if (kernels) {
    kernels.accelerate(u.byteOffset, v.byteOffset, g.byteOffset, factor, u.length)
    return
  }
  for (let i = 0; i < u.length; i++) {
    u[i] = Math.fround(factor * u[i]!) + g[i]!
    v[i]! += u[i]!
  }
}
