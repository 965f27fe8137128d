/**
 * Who reads what in evaluation: every item exactly once over all ranks, in order. Shards therefore differ by up to
 * one item and may be empty, so sums over ranks must be weighted by their counts. Not for training: see
 * DistributedSampler.
 */
import { checkInteger, checkRank } from './check.js'
import type { Sampler } from './dataset.js'

/**
 * Rank r reads r, r + size, r + 2·size, … below `total`: nothing is padded, so nothing is counted twice.
 *
 * @throws LockstepError for a length below 1 or a rank outside the world.
 */
export class EvaluationSampler implements Sampler {
  readonly length: number
  readonly mayBeShort = true
  readonly #rank: number
  readonly #size: number

  constructor(total: number, { rank, size }: { readonly rank: number; readonly size: number }) {
    checkInteger('EvaluationSampler', 'length', total, 1, 'pass the length of a dataset that is not empty')
    checkRank('EvaluationSampler', rank, size)
    this.#rank = rank
    this.#size = size
    this.length = Math.max(0, Math.ceil((total - rank) / size))
  }

  *[Symbol.iterator](): Generator<number> {
    for (let i = 0; i < this.length; i++) yield this.#rank + i * this.#size
  }
}
