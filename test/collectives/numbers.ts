/**
 * Inputs and comparisons that the conformance suites share.
 */
import { expect } from 'vitest'
import { allocate, bytesOf, DTYPES, type Dtype, isHalf } from '../../src/collectives/call.js'
import { type Numbers, REDUCE_OPS, type ReduceOp } from '../../src/collectives/communicator.js'

export const COUNTS = [0, 1, 2, 17, 1000, 65_537]
export const REDUCTIONS: readonly [Dtype, ReduceOp][] = DTYPES.flatMap((dtype) =>
  REDUCE_OPS.filter((op) => !isHalf(dtype) && (op !== 'mean' || dtype.startsWith('float'))).map(
    (op) => [dtype, op] as [Dtype, ReduceOp],
  ),
)
/** Largest difference from the float64 oracle, for values up to 2 on up to 4 ranks. */
const TOLERANCE: Partial<Readonly<Record<Dtype, number>>> = { float32: 4e-6, float64: 1e-14 }

const made = new Map<string, Numbers>()

/** Pseudo-random numbers, other ones on every rank: integers where the dtype has nothing else. Made once, given as copies. */
export function numbers(dtype: Dtype, count: number, rank: number): Numbers {
  const key = `${dtype} ${count} ${rank}`
  const known = made.get(key) ?? make(dtype, count, rank)
  made.set(key, known)
  return known.slice()
}

function make(dtype: Dtype, count: number, rank: number): Numbers {
  const values = new Float64Array(count)
  const isFloat = dtype.startsWith('float')
  let state = 12_345 + rank * 7919 + count
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    values[i] = isFloat ? (state / 2 ** 32 - 0.5) * 4 : (state >>> 20) - 2048 // four of them multiply to less than 2^53, where the oracle is exact
  }
  const data = allocate(dtype, count)
  data.set(values)
  return data
}

export function expectClose(results: readonly Numbers[], expected: readonly Numbers[], dtype: Dtype): void {
  results.forEach((result, rank) => {
    expect(result.length).toBe(expected[rank]!.length)
    let worst = 0
    for (let i = 0; i < result.length; i++)
      worst = Math.max(worst, Math.abs(result[i]! - expected[rank]![i]!))
    expect(worst).toBeLessThanOrEqual(TOLERANCE[dtype] ?? 0)
  })
}

export function expectSameBits(a: Numbers, b: Numbers): void {
  expect(Buffer.compare(bytesOf(a), bytesOf(b))).toBe(0)
}
