/**
 * The compressors' compiled kernels (assembly/), typed and bound. What they compute is said beside their scalar twins.
 */
import { type Operand, simdKernels } from '../kernels/simd.js'
import { wasm } from './wasm.generated.js'

type Encode = (dst: number, scales: number, src: number, length: number) => void
type Decode = (dst: number, src: number, scales: number, length: number) => void

interface Exports {
  subtract(dst: number, a: number, b: number, length: number): void
  accelerate(u: number, v: number, g: number, momentum: number, length: number): void
  readonly toInt4: Encode
  readonly fromInt4: Decode
  readonly addInt4: Decode
  readonly toSign: Encode
  readonly fromSign: Decode
  readonly addSign: Decode
  histogram(
    counts: number,
    src: number,
    length: number,
    shift: number,
    mask: number,
    prefix: number,
    prefixShift: number,
  ): void
  compact(
    positions: number,
    values: number,
    src: number,
    length: number,
    first: number,
    threshold: number,
    ties: number,
    most: number,
  ): number
  timesSkinny(p: number, m: number, q: number, rows: number, cols: number, width: number): void
  transposedTimesSkinny(q: number, m: number, p: number, rows: number, cols: number, width: number): void
  addLowRank(m: number, p: number, q: number, rows: number, cols: number, width: number, sign: number): void
}

const simd = simdKernels<Exports>(wasm)

/** The kernels for operands of different lengths; undefined when they do not all lie in one Arena. */
export function kernelsFor(first: Operand, ...others: readonly ArrayBufferView[]): Exports | undefined {
  return others.every(({ buffer }) => buffer === first.buffer) ? simd(first) : undefined
}
