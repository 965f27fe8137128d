/**
 * Turns a dataset and an order into batches, some of them made ahead of the training loop. Remembers where in the
 * epoch it is, so that a resumed job goes on with the very next batch. Makes no tensors, starts no threads.
 */
import { LockstepError } from '../errors.js'
import { checkInteger } from './check.js'
import type { Batch, Dataset, Sampler } from './dataset.js'

export interface DataLoaderOptions {
  /** Items per batch on this rank. */
  readonly batchSize: number
  /** This rank's share and order; without one, every item in its order. */
  readonly sampler?: Sampler
  /** Leave out the last batch where it would be smaller than the others. */
  readonly dropLast?: boolean
  /** How many batches beyond the one being waited for are asked of the dataset. */
  readonly prefetch?: number
}

/**
 * Where a job is: the first `items` of the epoch's order have been handed out, by all ranks together where the sampler
 * deals one order out to them. Batch size and number of ranks do not matter to it. JSON-safe.
 */
export type DataLoaderState = {
  readonly epoch: number
  readonly items: number
}

/**
 * Every iteration is one epoch: it asks the sampler anew and yields `length` batches, the last of which may be
 * smaller. Iterations of one loader must not overlap.
 *
 * @throws LockstepError from the constructor for a batch size below 1 or larger than this rank's shard (which a
 *   sampler for evaluation may allow), and from an iteration that resumes in another epoch than it was saved in.
 *   What the dataset throws comes out of the iteration at the batch it belongs to.
 */
export class DataLoader implements AsyncIterable<Batch> {
  /** Batches per epoch on this rank. */
  readonly length: number
  readonly #dataset: Dataset
  readonly #sampler: Sampler
  readonly #batchSize: number
  readonly #dropLast: boolean
  readonly #prefetch: number
  #epoch = 0
  /** Items of the epoch that were handed out before this iteration: a resumed one begins behind them. */
  #start = 0
  /** Batches of this iteration that were handed out. */
  #position = 0
  /** This rank's items in this iteration. */
  #share = 0
  #state: 'new' | 'restored' | 'started' = 'new'

  constructor(dataset: Dataset, options: DataLoaderOptions) {
    if (typeof (dataset as Partial<Dataset> | undefined)?.batch !== 'function')
      throw new LockstepError(
        'DataLoader: the dataset has no batch(): expected { length, batch(indices) } with { x, y } from batch(); ' +
          'for arrays write one around them',
      )
    const { batchSize, sampler = inOrder(dataset.length), dropLast = false, prefetch = 2 } = options
    checkInteger('DataLoader', 'batchSize', batchSize, 1, 'pass the items per batch and rank, e.g. 64')
    checkInteger('DataLoader', 'prefetch', prefetch, 0, 'pass how many batches to make ahead, e.g. 2')
    if (batchSize > sampler.length && !sampler.mayBeShort)
      throw new LockstepError(
        `DataLoader: batchSize is ${batchSize}, expected at most ${sampler.length}, the items in this rank's ` +
          'shard; take a smaller batch, fewer ranks or more data',
      )
    this.#dataset = dataset
    this.#sampler = sampler
    this.#batchSize = batchSize
    this.#dropLast = dropLast
    this.#prefetch = prefetch
    this.length = this.#batchesOf(sampler.length)
  }

  /** Batches that are still to come in the epoch that is being read, or that a loaded state continues. */
  get remaining(): number {
    if (this.#state === 'new') return this.length
    const share = this.#state === 'restored' ? this.#indices().length : this.#share
    return this.#batchesOf(share) - this.#position
  }

  /** For a checkpoint, the same on every rank. Counts what the loop has received, not what was made ahead. */
  stateDict(): DataLoaderState {
    if (this.#state === 'new') return { epoch: this.#sampler.epoch ?? 0, items: 0 }
    const own = Math.min(this.#position * this.#batchSize, this.#share)
    const items = Math.min(this.#start + own * (this.#sampler.size ?? 1), this.#total)
    return { epoch: this.#epoch, items }
  }

  /**
   * The next iteration goes on where `state` was taken, with the sampler set to that epoch. With a DistributedSampler
   * the number of ranks and the batch size may be others: every item that was not read is read, and none again.
   * @throws LockstepError for a position beyond the epoch: the state of another loader.
   */
  loadStateDict({ epoch, items }: DataLoaderState): void {
    const advice = 'load the state that stateDict() gave'
    checkInteger('DataLoader', 'epoch', epoch, 0, advice)
    checkInteger('DataLoader', 'items', items, 0, advice)
    if (items > this.#total)
      throw new LockstepError(
        `DataLoader: items is ${items}, expected at most ${this.#total}, those of an epoch; ` +
          'resume with the data of the checkpoint',
      )
    this.#sampler.setEpoch?.(epoch)
    this.#epoch = epoch
    this.#start = items
    this.#position = 0
    this.#state = 'restored'
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, void> {
    this.#startEpoch()
    const indices = this.#indices()
    this.#share = indices.length
    const batches = this.#batchesOf(this.#share)
    const ahead: Promise<Batch>[] = []
    let asked = 0
    while (this.#position < batches) {
      for (; asked < batches && ahead.length <= this.#prefetch; asked++)
        ahead.push(this.#make(indices.subarray(asked * this.#batchSize, (asked + 1) * this.#batchSize)))
      const batch = await ahead.shift()!
      this.#position++
      yield batch
    }
  }

  /** Items of an epoch, of all ranks where the sampler knows of them. */
  get #total(): number {
    return this.#sampler.total ?? this.#sampler.length
  }

  #indices(): Uint32Array {
    const sampler = this.#sampler
    return sampler.from
      ? Uint32Array.from(sampler.from(this.#start))
      : Uint32Array.from(sampler).subarray(this.#start)
  }

  #batchesOf(items: number): number {
    return (this.#dropLast ? Math.floor : Math.ceil)(items / this.#batchSize)
  }

  #startEpoch(): void {
    const epoch = this.#sampler.epoch
    if (this.#state === 'restored') {
      if (epoch !== undefined && epoch !== this.#epoch)
        throw new LockstepError(
          `DataLoader: sampler is at epoch ${epoch}, expected ${this.#epoch}, where the loaded state was taken; ` +
            `start the loop over epochs at ${this.#epoch}`,
        )
    } else {
      this.#epoch = epoch ?? (this.#state === 'new' ? 0 : this.#epoch + 1)
      this.#start = 0
      this.#position = 0
    }
    this.#state = 'started'
  }

  #make(indices: Uint32Array): Promise<Batch> {
    const batch = (async () => this.#dataset.batch(indices))()
    // Whoever awaits it gets the error; but a loop that was left never will, and that must not end the process.
    batch.catch(() => {})
    return batch
  }
}

function inOrder(length: number): Sampler {
  return { length, [Symbol.iterator]: () => Array.from({ length }, (_, i) => i)[Symbol.iterator]() }
}
