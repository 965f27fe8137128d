/**
 * Reductions of one equally long array per rank, in rank order: so whoever computes them gets the same bits. float32 and
 * 16-bit floats go through the SIMD kernels, the other dtypes through plain loops.
 */
import { type Dtype, dtypeOf, isHalf } from '../call.js'
import type { Numbers, ReduceOp } from '../communicator.js'
import type { HalfArray } from '../kernels/half-arrays.js'
import { sumHalves } from '../kernels/half-sums.js'
import * as float32 from '../kernels/kernels.js'
import { sumAll, sumInto } from '../kernels/sums.js'
import { type Combine, combineOf, divide } from '../reduce.js'

/** Elements that are reduced at a time where an intermediate result is read again: they stay in the fastest cache. */
const BLOCK = 2048

const KERNELS: Readonly<Record<ReduceOp, (dst: Float32Array, src: Float32Array) => void>> = {
  sum: float32.add,
  mean: float32.add,
  min: float32.minimum,
  max: float32.maximum,
  product: float32.multiply,
}

/** `target` = the reduction of `sources`; it may be the first of them, and overlaps no other. */
export function reduceInto(target: Numbers, sources: readonly Numbers[], op: ReduceOp): void {
  const dtype = dtypeOf(target)!
  if (isHalf(dtype)) {
    sumHalves(target as HalfArray, sources as readonly HalfArray[])
    return
  }
  if (dtype === 'float32' && (op === 'sum' || op === 'mean')) {
    sumInto(target as Float32Array, sources as Float32Array[])
    if (op === 'mean') float32.divide(target as Float32Array, sources.length)
    return
  }
  const combine = kernelOf(dtype, op)
  inBlocks([target, ...sources], ([to, first, ...others]) => {
    if (to!.byteOffset !== first!.byteOffset) to!.set(first!)
    for (const other of others) combine(to!, other)
    if (op === 'mean') divide(to!, sources.length)
  })
}

/** Every one of `targets` becomes the reduction of all. */
export function reduceAll(targets: readonly Numbers[], op: ReduceOp): void {
  if (op === 'sum' && dtypeOf(targets[0]) === 'float32') sumAll(targets as Float32Array[])
  else {
    inBlocks(targets, (parts) => {
      const [first, ...others] = parts
      reduceInto(first!, parts, op)
      for (const other of others) other.set(first!)
    })
  }
}

function kernelOf(dtype: Dtype, op: ReduceOp): Combine {
  return dtype === 'float32' ? (KERNELS[op] as Combine) : combineOf(dtype, op)
}

function inBlocks(arrays: readonly Numbers[], work: (parts: Numbers[]) => void): void {
  for (let at = 0; at < arrays[0]!.length; at += BLOCK) {
    work(arrays.map((array) => array.subarray(at, at + BLOCK)))
  }
}
