/**
 * The collectives over shared memory that only move numbers: through the ranks' buffers, in pieces, with one sync for
 * each. A piece is read after its sync, and nobody writes to its buffer again before all have come to the next one but one.
 */
import type { Call } from '../call.js'
import type { Numbers } from '../communicator.js'
import { liesIn, type Task } from '../task.js'
import type { Group, Place } from './group.js'
import { piecesOf } from './views.js'

/** Up to this size copying takes less time than a sync in which ranks show where their numbers are. */
export const COPIED_BYTES = 16_384

export async function allGather(group: Group, { call, input, output }: Task): Promise<void> {
  const [part, all] = [input!.data, output!.data]
  const counts = call.counts ?? new Array<number>(group.size).fill(part.length)
  group.bytesSent += part.byteLength * (group.size - 1)
  if (all.byteLength > COPIED_BYTES) {
    const place = await commonPlace(group, liesIn(input!, all) ? all : undefined)
    if (place) return allGatherInPlace(group, call, all, counts)
  }
  for (const { start, end } of piecesOf(Math.max(...counts), group.capacity(call.dtype))) {
    const stages = group.buffers(call.dtype, end - start).stages[group.nextParity()]
    stages[group.rank]!.set(part.subarray(start, end))
    await sync(group)
    copyParts(stages, counts, start, all)
  }
}

/** Every rank's part already lies in its place in that rank's `all`. */
async function allGatherInPlace(
  group: Group,
  { dtype }: Call,
  all: Numbers,
  counts: readonly number[],
): Promise<void> {
  let start = 0
  for (const [peer, count] of counts.entries()) {
    const part = all.subarray(start, start + count)
    start += count
    if (peer === group.rank || count === 0) continue
    for (const windows of group.windowsAt(group.placeOf(part), dtype, count))
      windows[group.rank]!.set(windows[peer]!)
  }
  await sync(group)
}

/**
 * A sync, after which this is where `data` lies in a shared region, if it does, and at the same place on all ranks:
 * otherwise all of them take the way that suits every place.
 */
export async function commonPlace(group: Group, data: Numbers | undefined): Promise<Place | undefined> {
  const place = data && group.placeOf(data)
  if (place) group.control.show(place)
  if (!group.control.arrive()) await group.control.others()
  return place && place.region > 0 && group.control.unanimous ? place : undefined
}

/** Puts the piece from `start` on of each rank's part, as far as that reaches, to its place in `all`. */
function copyParts(stages: readonly Numbers[], counts: readonly number[], start: number, all: Numbers): void {
  let before = 0
  stages.forEach((stage, rank) => {
    const length = Math.min(stage.length, counts[rank]! - start)
    if (length > 0) all.set(stage.subarray(0, length), before + start)
    before += counts[rank]!
  })
}

export async function gather(group: Group, { call, input, output }: Task): Promise<void> {
  const part = input!.data
  if (!output) group.bytesSent += part.byteLength
  const counts = new Array<number>(group.size).fill(part.length)
  for (const { start, end } of piecesOf(part.length, group.capacity(call.dtype))) {
    const stages = group.buffers(call.dtype, end - start).stages[group.nextParity()]
    stages[group.rank]!.set(part.subarray(start, end))
    await sync(group)
    if (output) copyParts(stages, counts, start, output.data)
  }
}

/** The root's buffer holds a piece of every rank's part, side by side. */
export async function scatter(group: Group, { call, input, output }: Task): Promise<void> {
  const part = output!.data
  if (input) group.bytesSent += part.byteLength * (group.size - 1)
  for (const { start, end } of piecesOf(part.length, Math.floor(group.capacity(call.dtype) / group.size))) {
    const length = end - start
    const stage = group.buffers(call.dtype, length * group.size).stages[group.nextParity()][call.root!]!
    if (input) stageShares(stage, input.data, part.length, start, length)
    await sync(group)
    part.set(stage.subarray(group.rank * length, (group.rank + 1) * length), start)
  }
}

/** Every buffer holds a piece of what its rank has for each, side by side. */
export async function allToAll(group: Group, { call, input, output }: Task): Promise<void> {
  const { rank, size } = group
  const share = input!.data.length / size
  group.bytesSent += (input!.data.byteLength * (size - 1)) / size
  for (const { start, end } of piecesOf(share, Math.floor(group.capacity(call.dtype) / size))) {
    const length = end - start
    const stages = group.buffers(call.dtype, length * size).stages[group.nextParity()]
    stageShares(stages[rank]!, input!.data, share, start, length)
    await sync(group)
    stages.forEach((stage, peer) => {
      output!.data.set(stage.subarray(rank * length, (rank + 1) * length), peer * share + start)
    })
  }
}

/** Puts `length` elements from `start` on of every rank's share side by side. */
export function stageShares(
  stage: Numbers,
  whole: Numbers,
  share: number,
  start: number,
  length: number,
): void {
  for (let at = 0, from = start; at < stage.length; at += length, from += share) {
    stage.set(whole.subarray(from, from + length), at)
  }
}

/**
 * What one rank sends to another in the background, where it may compute for long before it looks again: it waits until what
 * it sent before is taken, and not for this. The first time it waits for both, as the other must have found the memory.
 */
export async function post(group: Group, task: Task): Promise<void> {
  const { call, input } = task
  if (!input || group.bytesSent === 0) return broadcast(group, task)
  const { control } = group
  const { data } = input
  group.bytesSent += data.byteLength
  for (const { start, end } of piecesOf(data.length, group.capacity(call.dtype))) {
    if (!control.followed) await control.others()
    const stage = group.buffers(call.dtype, end - start).stages[group.nextParity()][0]!
    stage.set(data.subarray(start, end))
    control.post()
  }
}

/** A broadcast, and what one rank sends to another: from whoever has an input to whoever has an output. */
export async function broadcast(group: Group, { call, input, output }: Task): Promise<void> {
  const { data } = (input ?? output)!
  if (input) group.bytesSent += data.byteLength * (group.size - 1)
  for (const { start, end } of piecesOf(data.length, group.capacity(call.dtype))) {
    const stage = group.buffers(call.dtype, end - start).stages[group.nextParity()][call.root ?? 0]!
    if (input) stage.set(data.subarray(start, end))
    await sync(group)
    if (!input) data.set(stage, start)
  }
}

export function sync({ control }: Group): Promise<void> | undefined {
  return control.arrive() ? undefined : control.others()
}
