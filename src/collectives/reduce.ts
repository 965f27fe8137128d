/**
 * Elementwise reductions, one per operation and dtype: SIMD kernels for float32, plain loops for the others. They check
 * nothing.
 */
import type { Dtype } from './call.js'
import type { Numbers, ReduceOp } from './communicator.js'
import { anywhere } from './kernels/anywhere.js'
import type { HalfArray } from './kernels/half-arrays.js'
import { sumHalves } from './kernels/half-sums.js'
import { add, maximum, minimum, multiply } from './kernels/kernels.js'

/** `target[i] = target[i] (op) source[i]`, in the dtype's own arithmetic. */
export type Combine = (target: Numbers, source: Numbers) => void

type Operator = 'sum' | 'min' | 'max' | 'product'

// Each factory is called once per dtype: every dtype then has a function of its own, which the engine optimises
// for that one kind of array. The length is read once and the sum goes four at a time: 0.9 ns an element instead of 3.
const LOOPS: Readonly<Record<Operator, () => Combine>> = {
  sum: () => (target, source) => {
    const { length } = target
    const fours = length - (length % 4)
    for (let i = 0; i < fours; i += 4) {
      target[i] = target[i]! + source[i]!
      target[i + 1] = target[i + 1]! + source[i + 1]!
      target[i + 2] = target[i + 2]! + source[i + 2]!
      target[i + 3] = target[i + 3]! + source[i + 3]!
    }
    for (let i = fours; i < length; i++) target[i] = target[i]! + source[i]!
  },
  min: () => (target, source) => {
    const { length } = target
    for (let i = 0; i < length; i++) target[i] = Math.min(target[i]!, source[i]!)
  },
  max: () => (target, source) => {
    const { length } = target
    for (let i = 0; i < length; i++) target[i] = Math.max(target[i]!, source[i]!)
  },
  product: () => (target, source) => {
    const { length } = target
    for (let i = 0; i < length; i++) target[i] = target[i]! * source[i]!
  },
}

// A product of two int32 can exceed 2^53, where a double would round before it wraps.
const int32Product: Combine = (target, source) => {
  const { length } = target
  for (let i = 0; i < length; i++) target[i] = Math.imul(target[i]!, source[i]!)
}

function loopsFor(dtype: Dtype): Readonly<Record<ReduceOp, Combine>> {
  const sum = LOOPS.sum()
  return {
    sum,
    mean: sum, // divided by `divide` once the sum is complete
    min: LOOPS.min(),
    max: LOOPS.max(),
    product: dtype === 'int32' ? int32Product : LOOPS.product(),
  }
}

const float32Sum = anywhere(add) as Combine
const kernels: Readonly<Record<ReduceOp, Combine>> = {
  sum: float32Sum,
  mean: float32Sum,
  min: anywhere(minimum) as Combine,
  max: anywhere(maximum) as Combine,
  product: anywhere(multiply) as Combine,
}

const refused: Combine = () => {
  throw new TypeError('16-bit floats have sums only')
}
const halfSum: Combine = (target, source) => sumHalves(target as HalfArray, [target, source] as HalfArray[])
const halves = { sum: halfSum, mean: refused, min: refused, max: refused, product: refused }

const TABLE: Readonly<Record<Dtype, Readonly<Record<ReduceOp, Combine>>>> = {
  float32: kernels,
  float64: loopsFor('float64'),
  int32: loopsFor('int32'),
  uint8: loopsFor('uint8'),
  float16: halves,
  bfloat16: halves,
}

export function combineOf(dtype: Dtype, op: ReduceOp): Combine {
  return TABLE[dtype][op]
}

/** Every element divided by `divisor`: the end of a mean. */
export function divide(data: Numbers, divisor: number): void {
  const { length } = data
  for (let i = 0; i < length; i++) data[i] = data[i]! / divisor
}
