/**
 * How a flat buffer of tensors is cut for sharding: into *units* of whole layers or tensors, each of which all ranks hold an
 * equal part of. A unit is what is reduced, updated and gathered at a time (FSDP's term). Pure arithmetic.
 */
import type { Sharding } from './level.js'

/** Positions in the flat buffer, in floats. */
export interface Unit {
  readonly start: number
  /** A multiple of 16 floats for each rank after `start`; what is behind the last tensor is padding. */
  readonly end: number
  /** Positions of its tensors among all. */
  readonly tensors: readonly number[]
}

interface Tensor {
  /** `layer/weight`; weights of one layer follow each other. */
  readonly name: string
  readonly size: number
}

interface Run {
  readonly tensors: number[]
  floats: number
}

const CACHE_LINE = 16 // floats

const upTo = (floats: number, multiple: number): number => Math.ceil(floats / multiple) * multiple

/** How units are cut. */
export interface Cutting {
  /** Between any two tensors, or between layers only. */
  readonly within: 'layers' | 'tensors'
  /** Floats that a unit may have behind so many others; one layer, or tensor, it has at least. */
  most(before: number): number
}

/**
 * Runs of layers, or of tensors.
 * @returns also where every tensor begins
 */
export function unitsOf(
  tensors: readonly Tensor[],
  ranks: number,
  { within, most }: Cutting,
): { readonly units: readonly Unit[]; readonly offsets: readonly number[] } {
  const runs: Run[] = []
  let before = 0
  for (const layer of piecesOf(tensors, within)) {
    const last = runs.at(-1)
    if (last === undefined || last.floats + layer.floats > most(before)) {
      before += last?.floats ?? 0
      runs.push(layer)
    } else {
      last.tensors.push(...layer.tensors)
      last.floats += layer.floats
    }
  }
  const offsets: number[] = []
  let end = 0
  const units = runs.map(({ tensors: positions, floats }) => {
    const start = end
    for (const i of positions) {
      offsets.push(end)
      end += upTo(tensors[i]!.size, CACHE_LINE)
    }
    end = start + upTo(floats, CACHE_LINE * ranks)
    return { start, end, tensors: positions }
  })
  return { units, offsets }
}

/** Below so many floats a unit's exchange and its segment of the pass take longer for being called than for what they do. */
const SMALL_UNIT = 2 ** 20

/** Of the whole: what gradients of units may take beside the room of their parts, where state is in 16 bits. */
const LEAST_ROOM = 0.04

/**
 * A sixteenth of the whole, or the largest layer and the norms beside it: buffers of this size cost little beside a rank's
 * part. Where that is small, up to a sixth: every unit costs a segment of the pass, and a meeting of all ranks. In 16 bits
 * there is less state to hide them beside, and most at level 2: its first units are smaller (see `roomFor`), or parts of layers.
 */
export function streamed(
  tensors: readonly Tensor[],
  { level, size, turns, half }: Pick<Sharding, 'level' | 'size' | 'turns' | 'half'>,
): Cutting {
  const within = half && level === 2 ? 'tensors' : 'layers'
  const layers = piecesOf(tensors, within).map(({ floats }) => floats)
  const all = layers.reduce((sum, floats) => sum + floats, 0)
  const share = half && turns > 1 ? 8 : 6
  const most = Math.max(1.05 * Math.max(...layers), all / 16, Math.min(all / share, SMALL_UNIT))
  if (within === 'layers') return { within, most: () => most }
  return { within, most: (before) => Math.min(most, (LEAST_ROOM * all + before / size) / (1 - 1 / size)) }
}

/**
 * Where units' gradients lie whole, from the last unit to the first, while they are reduced: over the parts (a rank's of each,
 * side by side at the end of the room) of units that have not had their turn.
 * @param turns 2: also beside the unit after it, which may still be travelling
 * @returns floats of the room, and where each unit begins in it
 */
export function roomFor(
  units: readonly Unit[],
  ranks: number,
  turns: 1 | 2,
): { readonly floats: number; readonly starts: readonly number[] } {
  const sizes = units.map(({ start, end }) => end - start)
  const starts = sizes.map((_, i) =>
    turns === 1 || i % 2 === 0 ? 0 : Math.max(sizes[i - 1]!, sizes[i + 1] ?? 0),
  )
  const beside = units.map(({ end }, i) => starts[i]! + sizes[i]! - end / ranks)
  const parts = (units.at(-1)?.end ?? 0) / ranks
  return { floats: parts + Math.max(0, ...beside), starts }
}

function piecesOf(tensors: readonly Tensor[], within: Cutting['within']): Run[] {
  const layers: Run[] = []
  let layer: string | undefined
  for (const [i, { name, size }] of tensors.entries()) {
    const border = name.lastIndexOf('/')
    const own = border < 0 || within === 'tensors' ? undefined : name.slice(0, border)
    if (own === undefined || own !== layer) layers.push({ tensors: [], floats: 0 })
    layers.at(-1)!.tensors.push(i)
    layers.at(-1)!.floats += upTo(size, CACHE_LINE)
    layer = own
  }
  return layers
}

/** Rank `rank`'s part of a unit in the flat buffer. */
export function ownPart({ start, end }: Unit, rank: number, ranks: number): { start: number; end: number } {
  const length = (end - start) / ranks
  return { start: start + rank * length, end: start + (rank + 1) * length }
}

/** The same part in a buffer that holds this rank's parts alone, side by side. */
export function inShard({ start, end }: Unit, ranks: number): { start: number; end: number } {
  return { start: start / ranks, end: end / ranks }
}
