/**
 * Products of a matrix M [rows, cols] with skinny ones of `width` columns, a multiple of four; all row-major. SIMD in one
 * Arena, else scalar with the same bits: every operation is rounded to float32, in the order of the SIMD lanes.
 */
import { kernelsFor } from './binding.js'

const { fround } = Math

/** p [rows, width] = m q, for q [cols, width]. */
export function timesSkinny(
  p: Float32Array,
  m: Float32Array,
  q: Float32Array,
  rows: number,
  cols: number,
  width: number,
): void {
  const kernels = kernelsFor(m, p, q)
  if (kernels) {
    kernels.timesSkinny(p.byteOffset, m.byteOffset, q.byteOffset, rows, cols, width)
    return
  }
  p.fill(0)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      for (let c = 0; c < width; c++) p[i * width + c]! += fround(m[i * cols + j]! * q[j * width + c]!)
    }
  }
}

/** q [cols, width] = mᵀ p, for p [rows, width]. */
export function transposedTimesSkinny(
  q: Float32Array,
  m: Float32Array,
  p: Float32Array,
  rows: number,
  cols: number,
  width: number,
): void {
  const kernels = kernelsFor(m, p, q)
  if (kernels) {
    kernels.transposedTimesSkinny(q.byteOffset, m.byteOffset, p.byteOffset, rows, cols, width)
    return
  }
  q.fill(0)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      for (let c = 0; c < width; c++) q[j * width + c]! += fround(m[i * cols + j]! * p[i * width + c]!)
    }
  }
}

/** m += sign × p qᵀ, for p [rows, width] and q [cols, width]; sign is 1 or -1. */
export function addLowRank(
  m: Float32Array,
  p: Float32Array,
  q: Float32Array,
  rows: number,
  cols: number,
  width: number,
  sign: 1 | -1,
): void {
  const kernels = kernelsFor(m, p, q)
  if (kernels) {
    kernels.addLowRank(m.byteOffset, p.byteOffset, q.byteOffset, rows, cols, width, sign)
    return
  }
  const lanes = new Float32Array(4)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) {
      lanes.fill(0)
      for (let c = 0; c < width; c++) lanes[c % 4]! += fround(p[i * width + c]! * q[j * width + c]!)
      const [a, b, c, d] = lanes as unknown as [number, number, number, number]
      m[i * cols + j]! += sign * fround(fround(a + b) + fround(c + d))
    }
  }
}
