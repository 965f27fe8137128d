/**
 * What a traced pass fills besides parameters and gradients: for how long each value is needed, and so how much memory at the
 * fullest moment. By the order of the kernels; it runs nothing, and knows nothing of how a session lays its memory out.
 */
import { type KernelGraph, type KernelNode, numbersOf, sizeOf, type Value } from './graph.js'

/** Memory that one kernel fills. Reshaped it is the same memory. */
export interface Lifetime {
  readonly bytes: number
  /** Kernels by number: the one that makes it, and the last that reads it. */
  readonly madeAt: number
  readonly lastReadAt: number
  /** Of the kernel that makes it. */
  readonly layer: string | undefined
}

/** Kernels whose output is their input's memory. */
const VIEWS = new Set(['Reshape', 'Identity', 'ExpandDims'])

export function lifetimes({ nodes, outputs }: KernelGraph): Lifetime[] {
  const owners = new Map<
    Value,
    { bytes: number; madeAt: number; lastReadAt: number; layer: string | undefined }
  >()
  const given = new Set(outputs) // written where the caller wants them
  for (const [i, { kernel, layer, inputs, outputs }] of nodes.entries()) {
    for (const value of inputs) if (value && owners.has(value)) owners.get(value)!.lastReadAt = i
    const viewed = VIEWS.has(kernel) && inputs[0] ? owners.get(inputs[0]) : undefined
    for (const value of outputs) {
      if (viewed) owners.set(value, viewed)
      else if (!given.has(value) && (!VIEWS.has(kernel) || !inputs[0]))
        owners.set(value, { bytes: bytesOf(value), madeAt: i, lastReadAt: i, layer })
    }
  }
  return [...new Set(owners.values())]
}

const bytesOf = ({ shape, dtype }: Value) => sizeOf(shape) * numbersOf[dtype].BYTES_PER_ELEMENT

/** At the fullest moment. */
export function peakBytes(values: readonly Lifetime[]): number {
  const changes = new Map<number, number>()
  const change = (at: number, bytes: number) => changes.set(at, (changes.get(at) ?? 0) + bytes)
  for (const { bytes, madeAt, lastReadAt } of values) {
    change(madeAt, bytes)
    change(lastReadAt + 1, -bytes)
  }
  let [now, most] = [0, 0]
  for (const [, bytes] of [...changes].sort(([a], [b]) => a - b)) {
    now += bytes
    most = Math.max(most, now)
  }
  return most
}

/** What is there after kernel number `at` for those behind it. */
export function keptBytes(values: readonly Lifetime[], at: number): number {
  return values.reduce(
    (sum, { bytes, madeAt, lastReadAt }) => sum + (madeAt <= at && lastReadAt > at ? bytes : 0),
    0,
  )
}

export const isBackward = ({ layer }: Pick<KernelNode, 'layer'>): boolean =>
  layer?.endsWith(' (backward)') ?? false
