/**
 * The collectives over shared memory: what goes where between two syncs (control.ts). Private numbers pass through the
 * ranks' buffers in pieces; numbers in shared regions are reduced where they are, and copied nowhere.
 *
 * Steps and bytes, for n bytes on W ranks. All-reduce in place: 2 syncs; every rank reads n/W bytes of W ranks and writes
 * them to W. In pieces: 2 syncs a piece, and a copy in and out. Small: 1 sync, every rank reads all n bytes of W ranks.
 * Reduce-scatter and all-gather in place: 2 syncs; every rank reads n/W bytes of W ranks, and writes n/W, or all n.
 */
import type { Call, Operation } from '../call.js'
import type { Numbers, ReduceOp } from '../communicator.js'
import { liesIn, type Task } from '../task.js'
import type { Buffers, Group, Place } from './group.js'
import {
  allGather,
  allToAll,
  broadcast,
  COPIED_BYTES,
  commonPlace,
  gather,
  post,
  scatter,
  stageShares,
  sync,
} from './moves.js'
import { reduceAll, reduceInto } from './reduction.js'
import { piecesOf, sliceOf } from './views.js'

/** Returns no promise if no other rank was late and there is nothing to wait for. */
type Algorithm = (group: Group, task: Task) => Promise<void> | undefined

/**
 * Up to this size every rank reduces all of it: more arithmetic, and one sync less, which two ranks need 0.5 µs for, and
 * more ranks than cores a change of tasks.
 */
const SMALL_BYTES = 16_384

export const COLLECTIVES: Readonly<Record<Operation, Algorithm>> = {
  all_reduce: allReduce,
  reduce: (group, { call, input, output }) => reduceInPieces(group, call, input!.data, output?.data),
  reduce_scatter: reduceScatter,
  all_gather: allGather,
  all_gather_uneven: allGather,
  broadcast,
  gather,
  scatter,
  all_to_all: allToAll,
  send_recv: (group, task) => (group.control.background ? post : broadcast)(group, task),
  barrier: sync,
  hierarchical_all_reduce: sync,
}

function allReduce(group: Group, { call, output }: Task): Promise<void> | undefined {
  const { data } = output!
  group.bytesSent += Math.ceil((2 * data.byteLength * (group.size - 1)) / group.size)
  return data.byteLength <= SMALL_BYTES
    ? allReduceSmall(group, call, data)
    : allReduceLarge(group, call, data)
}

function allReduceSmall(group: Group, { dtype, reduction }: Call, data: Numbers): Promise<void> | undefined {
  const buffers = group.buffers(dtype, data.length)
  const parity = group.nextParity()
  buffers.stages[parity][group.rank]!.set(data)
  if (!group.control.arrive()) {
    return group.control.others().then(() => finishSmall(buffers, parity, reduction!, data))
  }
  finishSmall(buffers, parity, reduction!, data)
  return undefined
}

function finishSmall({ stages, scratch, sums }: Buffers, parity: 0 | 1, op: ReduceOp, data: Numbers): void {
  if (op === 'sum' && sums) sums[parity]()
  else reduceInto(scratch, stages[parity], op)
  data.set(scratch)
}

async function allReduceLarge(group: Group, call: Call, data: Numbers): Promise<void> {
  const place = await commonPlace(group, data)
  if (place) await allReduceInPlace(group, call, data, place)
  else await reduceInPieces(group, call, data, data)
}

async function allReduceInPlace(group: Group, call: Call, data: Numbers, place: Place): Promise<void> {
  for (const windows of group.windowsAt(place, call.dtype, data.length)) {
    const { start, end } = sliceOf(windows[0]!.length, group.size, group.rank)
    reduceAll(
      windows.map((window) => window.subarray(start, end)),
      call.reduction!,
    )
  }
  await sync(group)
}

/** For an all-reduce, and for a reduce on whose root alone there is a `to`. */
async function reduceInPieces(
  group: Group,
  { dtype, reduction, operation }: Call,
  from: Numbers,
  to?: Numbers,
): Promise<void> {
  if (operation === 'reduce') group.bytesSent += from.byteLength
  for (const { start, end } of piecesOf(from.length, group.capacity(dtype))) {
    const stages = group.buffers(dtype, end - start).stages[group.nextParity()]
    const own = sliceOf(end - start, group.size, group.rank)
    stages[group.rank]!.set(from.subarray(start, end))
    await sync(group)
    const sources = stages.map((stage) => stage.subarray(own.start, own.end))
    reduceInto(sources[0]!, sources, reduction!) // all slices come together in the buffer of rank 0
    await sync(group)
    to?.set(stages[0]!, start)
  }
}

/** The slices of a piece lie side by side in the buffers, one for each rank. */
async function reduceScatter(group: Group, { call, input, output }: Task): Promise<void> {
  const { rank, size } = group
  const [from, to] = [input!.data, output!.data]
  group.bytesSent += to.byteLength * (size - 1)
  if (from.byteLength > COPIED_BYTES) {
    const place = await commonPlace(group, liesIn(output!, from) ? from : undefined)
    if (place) return reduceScatterInPlace(group, call, to)
  }
  for (const { start, end } of piecesOf(to.length, Math.floor(group.capacity(call.dtype) / size))) {
    const length = end - start
    const { stages, scratch } = group.buffers(call.dtype, length * size)
    const inTurn = stages[group.nextParity()]
    stageShares(inTurn[rank]!, from, to.length, start, length)
    await sync(group)
    const sources = inTurn.map((stage) => stage.subarray(rank * length, (rank + 1) * length))
    reduceInto(scratch.subarray(0, length), sources, call.reduction!)
    to.set(scratch.subarray(0, length), start)
  }
}

/** Every rank's numbers for this one come together in rank 0's pages, where nobody else reads or writes them. */
async function reduceScatterInPlace(group: Group, { dtype, reduction }: Call, to: Numbers): Promise<void> {
  for (const windows of group.windowsAt(group.placeOf(to), dtype, to.length)) {
    reduceInto(windows[0]!, windows, reduction!)
    if (group.rank > 0) windows[group.rank]!.set(windows[0]!)
  }
  await sync(group)
}
