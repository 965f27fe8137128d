/**
 * What the rest of Lockstep sees of the collectives: one rank's end of a group of ranks.
 * It refuses to say how the numbers travel: that is a transport's part.
 */

export const REDUCE_OPS = ['sum', 'mean', 'min', 'max', 'product'] as const
export type ReduceOp = (typeof REDUCE_OPS)[number]

export type Numbers = Float32Array | Float64Array | Int32Array | Uint8Array

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
  /** Replaces `data` on every rank by `root`'s. Settles on every rank, `root` included, once all have it. */
  broadcast(data: Numbers, root?: number): Promise<void>
  /** All ranks' parts in rank order: `size` × `part.length` elements. Parts are equally long. */
  allGather(part: Numbers): Promise<Numbers>
  /** This rank's slice, `data.length / size` elements from `rank * data.length / size`, of the reduction. */
  reduceScatter(data: Numbers, op?: ReduceOp): Promise<Numbers>
  /** Settles once every rank has called it. */
  barrier(): Promise<void>
  /** Waits for what is in flight, says goodbye to the other ranks and frees links and threads. */
  close(): Promise<void>
}
