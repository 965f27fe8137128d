/**
 * How a large collective is cut into pieces, each a collective of its own: so that copying one piece goes on while another
 * one travels, and the memory that they pass through is bounded. Pure arithmetic; every rank cuts alike.
 */
import type { Call, Operation } from './call.js'
import type { Placed, Task } from './task.js'

export interface Piece {
  /** The whole's fingerprint; for uneven parts with the counts of this piece. */
  readonly call: Call
  readonly elements: number
  readonly inputs: readonly Placed[]
  readonly outputs: readonly Placed[]
}

/**
 * Operations whose working buffer is the user's own array on every rank (`inPlace`): where ranks use those in place, these
 * are not cut at all. What is cut must not differ by rank.
 */
const WHOLE: ReadonlySet<Operation> = new Set([
  'all_reduce',
  'all_gather',
  'all_gather_uneven',
  'broadcast',
  'gather',
  'send_recv',
])

export function staysWhole({ operation }: Call): boolean {
  return WHOLE.has(operation)
}

/** The largest working buffer that any rank has for this call, in elements: the same on all. */
export function workingElements(call: Call, size: number): number {
  return partsOf(call, size).reduce((sum, length) => sum + length, 0)
}

/** The pieces of `task`, in order, with working buffers of about `most` elements or fewer. At least one. */
export function piecesOf(task: Task, size: number, most: number): Piece[] {
  const { call, elements, input, output } = task
  const parts = partsOf(call, size)
  const longest = Math.max(...parts)
  const total = parts.reduce((sum, length) => sum + length, 0)
  const step = Math.max(1, Math.ceil(longest / Math.ceil(total / most || 1)))
  const mine = elements === total ? parts : parts.slice(0, 1) // gather and scatter, not on the root
  const pieces: Piece[] = []
  let start = 0
  do {
    const lengths = mine.map((length) => Math.min(start + step, length) - Math.min(start, length))
    const segments = (placed: Placed | undefined) => (placed ? cut(placed, mine, lengths, start) : [])
    pieces.push({
      call: call.counts ? { ...call, counts: lengths } : call,
      elements: lengths.reduce((sum, length) => sum + length, 0),
      inputs: segments(input),
      outputs: segments(output),
    })
    start += step
  } while (start < longest)
  return pieces
}

/**
 * The parts that a working buffer (on the root, where there is one) consists of, and that are all cut at the same places:
 * one where everything is elementwise, one a rank (all_to_all: two) where it is not. Nothing in it may differ by rank.
 */
function partsOf({ operation, count, counts }: Call, size: number): readonly number[] {
  const equal = (parts: number, length: number) => new Array<number>(parts).fill(length)
  if (counts) return counts
  if (operation === 'hierarchical_all_reduce') return [0]
  if (operation === 'all_gather' || operation === 'gather' || operation === 'scatter')
    return equal(size, count)
  if (operation === 'reduce_scatter') return equal(size, count / size)
  if (operation === 'all_to_all') return equal(2 * size, count / size)
  return [count]
}

/** What of `placed` is in the piece with `lengths` of each part, from `start` on in each: parts lie in it whole or not at all. */
function cut(
  { data, at }: Placed,
  parts: readonly number[],
  lengths: readonly number[],
  start: number,
): Placed[] {
  const segments: Placed[] = []
  let inWhole = 0
  let inPiece = 0
  parts.forEach((length, part) => {
    const from = inWhole + start - at
    if (lengths[part]! > 0 && inWhole >= at && inWhole < at + data.length) {
      segments.push({ data: data.subarray(from, from + lengths[part]!), at: inPiece })
    }
    inWhole += length
    inPiece += lengths[part]!
  })
  return segments
}
