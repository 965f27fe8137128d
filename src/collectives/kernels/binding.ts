/**
 * The collectives' compiled kernels (assembly/), typed and bound. What they compute is said beside their scalar twins.
 */
import { simdKernels } from './simd.js'
import { wasm } from './wasm.generated.js'

type Binary = (dst: number, src: number, length: number) => void

interface Exports {
  readonly add: Binary
  readonly minimum: Binary
  readonly maximum: Binary
  readonly multiply: Binary
  divide(dst: number, divisor: number, length: number): void
  sum2(dst: number, a: number, b: number, length: number): void
  sum3(dst: number, a: number, b: number, c: number, length: number): void
  sum4(dst: number, a: number, b: number, c: number, d: number, length: number): void
  sumAll2(a: number, b: number, length: number): void
  sumAll3(a: number, b: number, c: number, length: number): void
  sumAll4(a: number, b: number, c: number, d: number, length: number): void
  readonly toBfloat16: Binary
  readonly fromBfloat16: Binary
  readonly addBfloat16: Binary
  readonly toFloat16: Binary
  readonly fromFloat16: Binary
  readonly addFloat16: Binary
  quantise(dst: number, scales: number, src: number, length: number): void
  dequantise(dst: number, src: number, scales: number, length: number): void
  addQuantised(dst: number, src: number, scales: number, length: number): void
}

export const simd = simdKernels<Exports>(wasm)
