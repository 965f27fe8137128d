/**
 * The two halves of a hierarchical all-reduce that happen inside a host, in shared memory: every rank gets the reduction of
 * its own slice over its host; and, once the slices are reduced over all hosts, every rank gets those of the others. Where
 * all ranks of the host share the array, both work in place.
 *
 * One sync in the first, one in the second (in pieces: one a piece). In place, that is enough: a rank writes to another's
 * array only in its own slice, which nobody else reads, and only after the first sync, when that array is in the call.
 */
import { bytesOf, type Call, dtypeOf } from './call.js'
import type { Range } from './chunks.js'
import type { Numbers } from './communicator.js'
import type { Group } from './shared-memory/group.js'
import { sync } from './shared-memory/moves.js'
import { reduceInto } from './shared-memory/reduction.js'
import { piecesOf } from './shared-memory/views.js'

/** @returns whether the array is shared: the same answer on all ranks of the host. */
export async function reduceOwnSlice(
  group: Group,
  data: Numbers,
  slices: readonly Range[],
  op: NonNullable<Call['reduction']>,
): Promise<boolean> {
  const place = group.placeOf(data)
  group.control.leaveTimeoutToLinks()
  group.control.show(place)
  await sync(group)
  if (place.region === 0 || !group.control.unanimous) {
    await reduceInPieces(group, data, slices, op)
    return false
  }
  for (const windows of ownWindows(group, data, slices)) {
    const own = windows[group.rank]!
    reduceInto(own, [own, ...windows.filter((window) => window !== own)], op)
  }
  return true
}

/** @param memory the group that knows the shared arrays. */
export async function spreadSlices(
  group: Group,
  memory: Group,
  data: Numbers,
  slices: readonly Range[],
  inPlace: boolean,
): Promise<void> {
  group.control.leaveTimeoutToLinks()
  if (!inPlace) return spreadInPieces(group, data, slices)
  for (const windows of ownWindows(memory, data, slices)) {
    const own = bytesOf(windows[group.rank]!)
    windows.forEach((window, rank) => {
      if (rank !== group.rank) bytesOf(window).set(own)
    })
  }
  await sync(group)
}

/** All ranks' arrays in this rank's slice, by rank: as runs within one region each. */
function* ownWindows(group: Group, data: Numbers, slices: readonly Range[]): Generator<Numbers[]> {
  const { start, end } = slices[group.rank]!
  let at = 0
  for (const windows of group.windowsAt(group.placeOf(data), dtypeOf(data)!, data.length)) {
    const { length } = windows[0]!
    const [from, to] = [Math.max(start, at) - at, Math.min(end, at + length) - at]
    if (from < to) yield windows.map((window) => window.subarray(from, to))
    at += length
  }
}

/** A rank's buffer holds the same piece of all owned slices, side by side. */
async function reduceInPieces(
  group: Group,
  data: Numbers,
  slices: readonly Range[],
  op: NonNullable<Call['reduction']>,
): Promise<void> {
  const dtype = dtypeOf(data)!
  const owned = slices.filter(({ start, end }) => start < end)
  const mine = slices[group.rank]!
  for (const piece of piecesOf(longest(owned), Math.floor(group.capacity(dtype) / owned.length))) {
    const most = piece.end - piece.start
    const { stages, scratch } = group.buffers(dtype, most * owned.length)
    const inTurn = stages[group.nextParity()]
    owned.forEach((slice, i) => {
      const { start, end } = within(slice, piece)
      inTurn[group.rank]!.set(data.subarray(start, end), i * most)
    })
    await sync(group)
    const { start, end } = within(mine, piece)
    if (start === end) continue
    const sources = inTurn.map((stage) => stage.subarray(group.rank * most, group.rank * most + end - start))
    const sums = scratch.subarray(0, end - start)
    reduceInto(sums, sources, op)
    data.set(sums, start)
  }
}

async function spreadInPieces(group: Group, data: Numbers, slices: readonly Range[]): Promise<void> {
  const dtype = dtypeOf(data)!
  for (const piece of piecesOf(longest(slices), group.capacity(dtype))) {
    const stages = group.buffers(dtype, piece.end - piece.start).stages[group.nextParity()]
    const own = within(slices[group.rank]!, piece)
    stages[group.rank]!.set(data.subarray(own.start, own.end))
    await sync(group)
    slices.forEach((slice, rank) => {
      const { start, end } = within(slice, piece)
      if (rank !== group.rank) data.set(stages[rank]!.subarray(0, end - start), start)
    })
  }
}

function longest(slices: readonly Range[]): number {
  return Math.max(...slices.map(({ start, end }) => end - start))
}

/** The piece's part of a slice, both given by elements from its beginning. */
function within(slice: Range, piece: Range): Range {
  return {
    start: Math.min(slice.start + piece.start, slice.end),
    end: Math.min(slice.start + piece.end, slice.end),
  }
}
