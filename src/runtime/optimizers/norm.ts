/** The sum of squares of a buffer, in float64 and always in the same order: the same bits on every rank. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  sumOfSquares(values: number, length: number): number
}

const simd = simdKernels<Exports>(wasm)

/** The L2 norm. Squares of float32 are exact in float64, so nothing overflows or vanishes on the way. */
export function l2Norm(values: Float32Array): number {
  const kernels = simd(values)
  return Math.sqrt(kernels ? kernels.sumOfSquares(values.byteOffset, values.length) : sumScalar(values))
}

/** Eight running sums, as many as the SIMD kernel has lanes; then what is left over. */
function sumScalar(values: Float32Array): number {
  const lanes = new Float64Array(8)
  const whole = values.length & ~7
  for (let i = 0; i < whole; i++) lanes[i & 7]! += values[i]! * values[i]!
  const pairs = (lane: number) => lanes[lane]! + lanes[lane + 2]! + (lanes[lane + 4]! + lanes[lane + 6]!)
  let total = pairs(0) + pairs(1)
  for (let i = whole; i < values.length; i++) total += values[i]! * values[i]!
  return total
}
