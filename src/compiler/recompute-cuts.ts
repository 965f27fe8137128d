/** Where the forward pass is cut for recomputation: which activations cost what, and the cuts that need the least memory. */
import { type KernelNode, numbersOf, sizeOf, type Value } from './graph.js'
import { EXCHANGE } from './ops/exchange.js'

/** Into at most how many segments a forward pass is cut; true: as many as need the least memory. */
export type Recompute = true | number

export interface Cutting {
  readonly recompute: Recompute
  /** How many passes may have gone forward and not yet back; 1 by default. With more the last segment is recomputed, too. */
  readonly inFlight?: number
}

/** Memory that the forward pass fills. Reshaped it is the same memory. */
export interface Activation {
  readonly values: readonly Value[]
  readonly bytes: number
  /** The nodes of the forward pass, by number, that make it and that read it last. */
  readonly madeAt: number
  readonly lastReadAt: number
  /** Whether the backward pass reads it. */
  readonly isSaved: boolean
}

/** @param outputs are read at the end. @param varying values that differ from pass to pass: others are not activations */
export function activationsOf(
  forward: readonly KernelNode[],
  backward: readonly KernelNode[],
  outputs: readonly Value[],
  varying: ReadonlySet<Value>,
): Activation[] {
  const found = new Map<Value, { values: Value[]; bytes: number; madeAt: number; lastReadAt: number }>()
  for (const [i, { kernel, inputs, outputs }] of forward.entries()) {
    for (const value of inputs) if (value && found.has(value)) found.get(value)!.lastReadAt = i
    const viewed = kernel === 'Reshape' ? found.get(inputs[0]!) : undefined
    for (const value of outputs.filter((output) => varying.has(output))) {
      // What was exchanged is kept in any case.
      const bytes = kernel === EXCHANGE ? 0 : bytesOf(value)
      const activation = viewed ?? { values: [], bytes, madeAt: i, lastReadAt: i }
      activation.values.push(value)
      found.set(value, activation)
    }
  }
  for (const value of outputs) if (found.has(value)) found.get(value)!.lastReadAt = Number.POSITIVE_INFINITY
  const read = new Set(backward.flatMap(({ inputs }) => inputs))
  return [...new Set(found.values())].map((activation) => ({
    ...activation,
    isSaved: activation.values.some((value) => read.has(value)),
  }))
}

const bytesOf = ({ shape, dtype }: Value) => sizeOf(shape) * numbersOf[dtype].BYTES_PER_ELEMENT

/** Ever smaller limits of what one segment may save, down to this part of all. */
const LIMIT_RATIO = 0.85
const SMALLEST = 2 ** -10
/** What a segment more must save. Parts, not bytes: ranks whose batches differ in size must cut alike. */
const SEGMENT_SHARE = 2 ** -16

/** After how many nodes each segment ends: the last after all of them. */
export function cheapestCuts(
  activations: readonly Activation[],
  nodes: number,
  { recompute, inFlight = 1 }: Cutting,
): number[] {
  const madeAt = Array.from({ length: nodes }, (): Activation[] => [])
  for (const activation of activations) madeAt[activation.madeAt]!.push(activation)
  const total = activations.reduce((sum, { bytes, isSaved }) => sum + (isSaved ? bytes : 0), 0)
  const most = recompute === true ? Number.POSITIVE_INFINITY : recompute
  let best = { ends: [nodes], bytes: Number.POSITIVE_INFINITY }
  for (let limit = total; limit > total * SMALLEST; limit *= LIMIT_RATIO) {
    const { ends, kept } = cutsWithin(limit, madeAt, total * SEGMENT_SHARE)
    const bytes = kept * inFlight + limit
    if (ends.length <= most && bytes < best.bytes) best = { ends, bytes }
  }
  return best.ends
}

/**
 * The cuts that keep the fewest bytes while no segment saves more than `limit`, a single node's aside. By dynamic
 * programming: the cheapest way to end a segment after node q is the cheapest way to begin it before some p ≤ q.
 */
function cutsWithin(limit: number, madeAt: readonly (readonly Activation[])[], perSegment: number) {
  const cost = [0]
  const begins = [0]
  for (let end = 1; end <= madeAt.length; end++) {
    let [kept, saved] = [0, 0]
    cost[end] = Number.POSITIVE_INFINITY
    for (let begin = end - 1; begin >= 0; begin--) {
      for (const { bytes, lastReadAt, isSaved } of madeAt[begin]!) {
        if (lastReadAt >= end) kept += bytes
        else if (isSaved) saved += bytes
      }
      if (saved > limit && begin < end - 1) break
      const sum = cost[begin]! + kept + perSegment
      if (sum < cost[end]!) [cost[end], begins[end]] = [sum, begin]
    }
  }
  const ends: number[] = []
  for (let end = madeAt.length; end > 0; end = begins[end]!) ends.unshift(end)
  return { ends, kept: cost.at(-1)! }
}
