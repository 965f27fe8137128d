/**
 * Who reads what in training: every epoch's order, dealt out to the ranks like cards. All ranks get equally many
 * indices, so none waits for a step that another does not make. Not for evaluation: see EvaluationSampler.
 */
import { LockstepError } from '../errors.js'
import { checkInteger, checkRank } from './check.js'
import type { Sampler } from './dataset.js'
import { Mt19937, PERMUTATION_LIMIT, randomPermutation } from './mt19937.js'

export interface DistributedSamplerOptions {
  readonly rank: number
  /** Number of ranks. */
  readonly size: number
  /** Reorder in every epoch; otherwise 0, 1, 2, … */
  readonly shuffle?: boolean
  /** The same on every rank, or their shards overlap. */
  readonly seed?: number
  /** Leave out up to `size − 1` items so that shards are equal; otherwise the first ones are read twice. */
  readonly dropLast?: boolean
}

/**
 * The sampler of PyTorch, index for index: `torch.utils.data.DistributedSampler(dataset, num_replicas=size,
 * rank=rank, shuffle=…, seed=…, drop_last=…)`. Rank r reads positions r, r + size, r + 2·size, … of the epoch's
 * order, so the ranks' k-th batches of B are together the k-th batch of size·B of a world of one.
 *
 * @throws LockstepError for a length below 1, a rank outside the world, or a seed that is not an integer.
 */
export class DistributedSampler implements Sampler {
  /** Indices per epoch on this rank, the same on every rank. */
  readonly length: number
  /** Items in the order that is dealt out. */
  readonly total: number
  readonly #options: Required<DistributedSamplerOptions>
  #epoch = 0

  constructor(total: number, options: DistributedSamplerOptions) {
    const { rank, size, shuffle = true, seed = 0, dropLast = false } = options
    checkInteger('DistributedSampler', 'length', total, 1, 'pass the length of a dataset that is not empty')
    checkRank('DistributedSampler', rank, size)
    checkInteger('DistributedSampler', 'seed', seed, Number.MIN_SAFE_INTEGER, 'pass e.g. seed: 0')
    if (shuffle && total >= PERMUTATION_LIMIT)
      throw new LockstepError(
        `DistributedSampler: length is ${total}, expected less than ${PERMUTATION_LIMIT} to shuffle; ` +
          'pass shuffle: false or split the dataset',
      )
    this.total = total
    this.#options = { rank, size, shuffle, seed, dropLast }
    this.length = this.#share(total)
  }

  /** Number of ranks. */
  get size(): number {
    return this.#options.size
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Chooses the order of the next iteration. Call it before every epoch, with the same number on every rank. */
  setEpoch(epoch: number): void {
    checkInteger('DistributedSampler', 'epoch', epoch, 0, 'count epochs from 0')
    this.#epoch = epoch
  }

  [Symbol.iterator](): Generator<number> {
    return this.from(0)
  }

  /**
   * This rank's indices of the epoch without the order's first `items`, which were read before, by however many ranks.
   * Rank r reads positions items + r, items + r + size, …: every other item once, but for padding or `dropLast`.
   */
  *from(items: number): Generator<number> {
    const { rank, size, shuffle, seed } = this.#options
    const order = shuffle ? randomPermutation(this.total, new Mt19937(seed + this.#epoch)) : undefined
    for (let i = 0; i < this.#share(this.total - items); i++) {
      const position = (items + rank + i * size) % this.total // going around again is the padding
      yield order ? order[position]! : position
    }
  }

  /** How many of `items` each rank gets. */
  #share(items: number): number {
    const { size, dropLast } = this.#options
    return dropLast ? Math.floor(items / size) : Math.ceil(items / size)
  }
}
