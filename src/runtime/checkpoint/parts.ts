/**
 * What of a training state a rank holds, whatever the mesh: parts of tensors. Moves them between ranks to make whole tensors,
 * and back. It knows no files, and no kind of parallelism.
 */
import type { Communicator } from '../../collectives/communicator.js'
import { allTexts } from './collective.js'
import { allOf, common, cutRuns, type Runs, sizeOf } from './runs.js'
import type { NamedTensor } from './safetensors.js'

export type Kind = 'model' | 'optimizer'

export interface Described {
  readonly name: string
  readonly shape: readonly number[]
}

/** Numbers of one tensor that this rank holds. */
export interface Part extends Described {
  readonly kind: Kind
  /** Which of the whole tensor's they are; `shape` and `name` are the whole tensor's, too. */
  readonly runs: Runs
  /** They themselves, in order. */
  readonly data: Float32Array
  /** Of the ranks that hold the same numbers, which this is; `among` names them, for each such group of a rank. */
  readonly copy: { readonly rank: number; readonly size: number; readonly among: string }
}

/** A trainer's state, as a checkpoint sees it. */
export interface HeldState {
  /** Every tensor, on whatever rank it is; the same on all ranks. */
  readonly model: readonly Described[]
  readonly optimizer: readonly Described[]
  /** Whether each rank holds all of it. The same on all ranks. */
  readonly isWhole: boolean
  /** What this rank holds: views of the buffers that it trains with. */
  parts(): readonly Part[]
}

export interface WholeTensors {
  readonly model: readonly NamedTensor[]
  readonly optimizer: readonly NamedTensor[]
}

export const floatsOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

export const keyOf = ({ kind, name }: Pick<Part, 'kind' | 'name'>): string => `${kind}/${name}`

export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group) group.push(item)
    else groups.set(key, [item])
  }
  return groups
}

/** A whole tensor that this rank holds. */
export function wholePart(kind: Kind, { name, shape, data }: NamedTensor, copy: Part['copy']): Part {
  return { kind, name, shape, data, copy, runs: allOf(data.length) }
}

/** The numbers `from` … `to` - 1 of a part. */
export function cutPart(part: Part, from: number, to: number): Part[] {
  let at = from
  return cutRuns(part.runs, from, to).map((runs) => {
    const data = part.data.subarray(at, at + sizeOf(runs))
    at += data.length
    return { ...part, runs, data }
  })
}

/**
 * What this rank writes so that all ranks together write everything once: of what several ranks hold, an equal share each.
 */
export function shareOf(parts: readonly Part[]): Part[] {
  const groups = groupBy(parts, ({ copy }) => copy.among)
  return [...groups.values()].flatMap((same) => {
    const { rank, size } = same[0]!.copy
    const all = same.reduce((sum, { data }) => sum + data.length, 0)
    const [from, to] = [Math.floor((rank * all) / size), Math.floor(((rank + 1) * all) / size)]
    let start = 0
    return same.flatMap((part) => {
      const first = start
      start += part.data.length
      return cutPart(part, Math.max(0, from - first), Math.min(part.data.length, to - first))
    })
  })
}

/** Whole tensors on rank 0, its own buffers where it has them whole; undefined elsewhere. All ranks must call it together. */
export async function collect(links: Communicator, state: HeldState): Promise<WholeTensors | undefined> {
  const own = state.parts().filter(({ copy }) => copy.rank === 0)
  const offers = await allTexts(links, JSON.stringify(own.map(({ data: _, ...rest }) => rest)))
  if (links.rank > 0) {
    for (const { data } of own) await links.send(data, 0)
    return undefined
  }
  const held = new Map(own.map((part) => [keyOf(part), part]))
  const wholes = new Map<string, Float32Array>()
  const room = (kind: Kind, { name, shape }: Described): NamedTensor => {
    const floats = floatsOf(shape)
    const mine = held.get(keyOf({ kind, name }))
    const data = mine?.data.length === floats ? mine.data : new Float32Array(floats)
    wholes.set(keyOf({ kind, name }), data)
    return { name, shape, data }
  }
  const model = state.model.map((tensor) => room('model', tensor))
  const optimizer = state.optimizer.map((tensor) => room('optimizer', tensor))
  for (const part of own) place(part.data, part.runs, wholes.get(keyOf(part))!)
  for (const [rank, offer] of offers.entries()) {
    if (rank === 0) continue
    for (const part of JSON.parse(offer) as Omit<Part, 'data'>[]) {
      const data = new Float32Array(sizeOf(part.runs))
      await links.recv(data, rank)
      place(data, part.runs, wholes.get(keyOf(part))!)
    }
  }
  return { model, optimizer }
}

/** The way back: every rank gets its parts of rank 0's tensors, one after the other. All ranks must call it together. */
export async function distribute(
  links: Communicator,
  state: Pick<HeldState, 'model' | 'optimizer' | 'parts'>,
  wholes: WholeTensors | undefined,
): Promise<void> {
  const parts = groupBy(state.parts(), keyOf)
  for (const kind of ['model', 'optimizer'] as const) {
    const given = new Map(wholes?.[kind].map(({ name, data }) => [name, data]))
    for (const { name, shape } of state[kind]) {
      const own = parts.get(keyOf({ kind, name })) ?? []
      const data = given.get(name) ?? new Float32Array(floatsOf(shape))
      if (links.size > 1) await links.broadcast(data, 0)
      for (const part of own)
        for (const { a, b, length } of common(part.runs, allOf(data.length)))
          part.data.set(data.subarray(b, b + length), a)
    }
  }
}

function place(data: Float32Array, runs: Runs, whole: Float32Array): void {
  if (data === whole) return
  for (const { a, b, length } of common(runs, allOf(whole.length))) whole.set(data.subarray(a, a + length), b)
}
