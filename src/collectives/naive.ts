/**
 * What each collective means, in the most obvious way: all ranks' arrays in, every rank's result out.
 * Nothing travels and everything is float64: the oracle that the tests hold the real ones against.
 */
import { allocate, dtypeOf } from './call.js'
import type { Numbers, ReduceOp } from './communicator.js'

const FOLD: Readonly<Record<ReduceOp, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  mean: (a, b) => a + b,
  min: Math.min,
  max: Math.max,
  product: (a, b) => a * b,
}

/** The reduction of one equally long array per rank, in rank order, in float64. */
export function naiveReduce(inputs: readonly Numbers[], op: ReduceOp): Float64Array {
  const result = new Float64Array(inputs[0]!)
  const fold = FOLD[op]
  for (const input of inputs.slice(1)) {
    for (let i = 0; i < result.length; i++) result[i] = fold(result[i]!, input[i]!)
  }
  return op === 'mean' ? result.map((value) => value / inputs.length) : result
}

/** Every rank's array after an all-reduce, stored in the inputs' dtype (which wraps integers). */
export function naiveAllReduce(inputs: readonly Numbers[], op: ReduceOp): Numbers[] {
  const sum = like(inputs[0]!, naiveReduce(inputs, op))
  return inputs.map(() => sum.slice())
}

/** Every rank's slice after a reduce-scatter. */
export function naiveReduceScatter(inputs: readonly Numbers[], op: ReduceOp): Numbers[] {
  const length = inputs[0]!.length / inputs.length
  const whole = naiveReduce(inputs, op)
  return inputs.map((input, rank) => like(input, whole.subarray(rank * length, (rank + 1) * length)))
}

/** Every rank's result of an all-gather. */
export function naiveAllGather(parts: readonly Numbers[]): Numbers[] {
  const whole = joined(parts)
  return parts.map(() => whole.slice())
}

/** The root's array after a reduce; everybody else's is as before. */
export function naiveReduceToRoot(inputs: readonly Numbers[], op: ReduceOp, root: number): Numbers[] {
  return inputs.map((input, rank) => (rank === root ? like(input, naiveReduce(inputs, op)) : input))
}

/** What the root of a scatter gives to every rank. */
export function naiveScatter(whole: Numbers, size: number): Numbers[] {
  const length = whole.length / size
  return Array.from({ length: size }, (_, rank) => whole.slice(rank * length, (rank + 1) * length))
}

/** Every rank's result of an all-to-all. */
export function naiveAllToAll(inputs: readonly Numbers[]): Numbers[] {
  const shares = inputs.map((input) => naiveScatter(input, inputs.length))
  return inputs.map((_, rank) => joined(shares.map((share) => share[rank]!)))
}

/** Every rank's array after a broadcast. */
export function naiveBroadcast(inputs: readonly Numbers[], root: number): Numbers[] {
  return inputs.map(() => like(inputs[root]!, inputs[root]!))
}

function joined(parts: readonly Numbers[]): Numbers {
  const whole = allocate(
    dtypeOf(parts[0]!)!,
    parts.reduce((length, part) => length + part.length, 0),
  )
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

function like(model: Numbers, values: ArrayLike<number>): Numbers {
  const result = allocate(dtypeOf(model)!, values.length)
  result.set(values)
  return result
}
