/**
 * What the rest of Lockstep sees of the collectives: one rank's end of a group of ranks.
 * It refuses to say how the numbers travel: that is a transport's part.
 */

import type { HalfArray } from './kernels/half-arrays.js'

export const REDUCE_OPS = ['sum', 'mean', 'min', 'max', 'product'] as const
export type ReduceOp = (typeof REDUCE_OPS)[number]

/** 16-bit floats have sums only. */
export type Numbers = Float32Array | Float64Array | Int32Array | Uint8Array | HalfArray

export interface GroupOptions {
  /**
   * Small operations too go on while the caller's thread computes. (Large ones do anyway, but in shared memory, where nothing
   * does, and a send does not wait for its receiver.) Each then takes a tenth of a millisecond longer. The same on all ranks.
   */
  readonly background?: boolean
}

/**
 * One rank of a group. Every rank must call the same collectives in the same order, with the same element
 * count, dtype, reduction and root; several may be in flight at once. An array given to a collective belongs
 * to it until the promise settles. Results are bit-identical on all ranks and from run to run.
 *
 * Every method rejects with a `LockstepError`: for a wrong argument (nothing is sent), when ranks disagree about
 * the call, when a rank closed its end, and after `timeoutMs` without progress. It rejects with a
 * `PeerFailedError` when another rank's process ended. After any failure but the first kind the group is
 * broken, and all later calls reject with the same reason.
 */
export interface Communicator {
  readonly rank: number
  readonly size: number
  /** Payload bytes that this rank has handed to its links so far. */
  readonly bytesSent: number
  /**
   * Replaces `data` on every rank by its elementwise reduction over all ranks. `mean` is the sum divided once by
   * `size`, for float arrays only. Sums and products of int32 and uint8 wrap around, as the array's own
   * arithmetic does; min and max of a NaN are NaN.
   */
  allReduce(data: Numbers, op?: ReduceOp): Promise<void>
  /** As `allReduce`, on `root` alone; all other ranks' arrays stay as they are. */
  reduce(data: Numbers, op?: ReduceOp, root?: number): Promise<void>
  /**
   * This rank's slice, `data.length / size` elements from `rank * data.length / size`, of the reduction: in `into`, by
   * default a new array. Where `into` is that slice of `data` itself, nothing need be copied, and the other elements of
   * `data` are undefined afterwards.
   */
  reduceScatter(data: Numbers, op?: ReduceOp, into?: Numbers): Promise<Numbers>
  /** Replaces `data` on every rank by `root`'s. Settles on every rank, `root` included, once all have it. */
  broadcast(data: Numbers, root?: number): Promise<void>
  /**
   * All ranks' parts in rank order. Parts are equally long, or as `counts`, the same list on every rank, says.
   * (Ranks that do not know the others' lengths gather those first: `allGather(Int32Array.of(part.length))`.)
   * The result is `into`, by default a new array; `part` may lie in its place there.
   */
  allGather(part: Numbers, counts?: readonly number[], into?: Numbers): Promise<Numbers>
  /** All ranks' equally long parts in rank order, on `root`; undefined elsewhere. */
  gather(part: Numbers, root?: number): Promise<Numbers | undefined>
  /** Fills `part` with this rank's share of `whole`, `size` × `part.length` elements, which only `root` gives. */
  scatter(part: Numbers, root?: number, whole?: Numbers): Promise<void>
  /** `data` holds one equal share for each rank; the result holds the one from each rank, in rank order. */
  allToAll(data: Numbers): Promise<Numbers>
  /**
   * Sends `data` to another rank, whose `recv` from this one must give an equally long array of the same dtype. The first
   * send between two ranks meets the first recv, and so on; they wait for no other operation, and none waits for them.
   * (Streams of their own: a group of the two for each.) Settles once `data` may be used again.
   */
  send(data: Numbers, to: number): Promise<void>
  /** Replaces `data` by what `from` sends. */
  recv(data: Numbers, from: number): Promise<void>
  /** Settles once every rank has called it. */
  barrier(): Promise<void>
  /**
   * Some of these ranks as a communicator of their own: its rank r is `ranks[r]` here. Called with the same list on
   * exactly those ranks, which need not meet for it. Its operations are in no order with those of others. A failure
   * in one breaks all, as they share their links; closing it only waits for what is in flight in it.
   * @throws LockstepError for a rank that is out of range, named twice, or if the caller is not in the list.
   */
  group(ranks: readonly number[], options?: GroupOptions): Communicator
  /**
   * Only where ranks share memory: moves an array, as long on every rank and from `Arena.allocPages`, to pages that all
   * of them see. What it holds stays; later all-reduces of it, or of the same part on every rank, copy nothing, nor do
   * reduce-scatters and all-gathers whose `into` lies in it. All ranks
   * must call it together. @returns why it could not be done, if so: the array is then as good as any other.
   */
  share?(data: Float32Array): Promise<string | undefined>
  /** Waits for what is in flight, says goodbye to the other ranks and frees links and threads. */
  close(): Promise<void>
}
