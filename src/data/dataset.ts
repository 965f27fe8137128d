/**
 * What the data room hands to the rest: numbers with a shape, batches, and datasets that make batches.
 * Nothing here knows a tensor library; whoever trains wraps the arrays itself.
 */

/** Numbers in row-major order; `data.length` is the product of `shape`. */
export interface NdArray {
  readonly data: Float32Array | Int32Array | Uint8Array
  readonly shape: readonly number[]
}

/** Inputs and targets of the same items; the first dimension of both is the number of items. */
export interface Batch {
  readonly x: NdArray
  readonly y: NdArray
}

/** A fixed number of items that can be asked for in any order. */
export interface Dataset {
  readonly length: number
  /** The items at `indices`, in that order. A dataset may answer at once or later. */
  batch(indices: ArrayLike<number>): Batch | Promise<Batch>
}

/** The order in which one rank reads a dataset: every iteration gives one epoch's indices. */
export interface Sampler extends Iterable<number> {
  /** How many indices one iteration gives: the size of this rank's shard. */
  readonly length: number
  /** The epoch that the next iteration belongs to, for samplers whose order depends on it. */
  readonly epoch?: number
  setEpoch?(epoch: number): void
  /**
   * Together, where one order of `total` items is dealt out to `size` ranks: such a job can go on in mid-epoch with
   * another number of ranks. `from` gives this rank's share of what follows the order's first `items`, equally many
   * on every rank.
   */
  readonly total?: number
  readonly size?: number
  from?(items: number): Iterable<number>
  /** True where a shard may be smaller than a batch, or empty, as in evaluation. In training it may not. */
  readonly mayBeShort?: boolean
}
