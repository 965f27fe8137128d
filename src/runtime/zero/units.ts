/**
 * How a flat buffer of tensors is cut for sharding: into *units* of whole layers, each of which all ranks hold an equal
 * part of. A unit is what is reduced, updated and gathered at a time (FSDP's term). Pure arithmetic.
 */

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

/**
 * Runs of layers of up to `most` floats, at least one layer each.
 * @returns also where every tensor begins
 */
export function unitsOf(
  tensors: readonly Tensor[],
  ranks: number,
  most: number,
): { readonly units: readonly Unit[]; readonly offsets: readonly number[] } {
  const runs: Run[] = []
  for (const layer of layersOf(tensors)) {
    const last = runs.at(-1)
    if (last === undefined || last.floats + layer.floats > most) runs.push(layer)
    else {
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

/**
 * A sixteenth of the whole, or the largest layer and the norms beside it: buffers of this size cost little beside a rank's
 * part. Where that is small, up to a sixth: every unit costs a segment of the pass, and a meeting of all ranks.
 */
export function streamedFloats(tensors: readonly Tensor[]): number {
  const layers = layersOf(tensors).map(({ floats }) => floats)
  const all = layers.reduce((sum, floats) => sum + floats, 0)
  return Math.max(1.05 * Math.max(...layers), all / 16, Math.min(all / 6, SMALL_UNIT))
}

function layersOf(tensors: readonly Tensor[]): Run[] {
  const layers: Run[] = []
  let layer: string | undefined
  for (const [i, { name, size }] of tensors.entries()) {
    const border = name.lastIndexOf('/')
    const own = border < 0 ? undefined : name.slice(0, border)
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
