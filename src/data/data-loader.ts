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

/** Where a loader is: `position` batches of `epoch` have been handed out. JSON-safe. */
export interface DataLoaderState {
  readonly epoch: number
  readonly position: number
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
  readonly #prefetch: number
  #epoch = 0
  #position = 0
  #state: 'new' | 'restored' | 'started' = 'new'

  constructor(dataset: Dataset, options: DataLoaderOptions) {
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
    this.#prefetch = prefetch
    this.length = (dropLast ? Math.floor : Math.ceil)(sampler.length / batchSize)
  }

  /** For a checkpoint. Counts what the loop has received, not what was made ahead. */
  stateDict(): DataLoaderState {
    if (this.#state === 'new') return { epoch: this.#sampler.epoch ?? 0, position: 0 }
    return { epoch: this.#epoch, position: this.#position }
  }

  /**
   * The next iteration goes on where `state` was taken, with the sampler set to that epoch.
   * @throws LockstepError for a position beyond the epoch: the state of another loader.
   */
  loadStateDict({ epoch, position }: DataLoaderState): void {
    const advice = 'load the state that stateDict() gave'
    checkInteger('DataLoader', 'epoch', epoch, 0, advice)
    checkInteger('DataLoader', 'position', position, 0, advice)
    if (position > this.length)
      throw new LockstepError(
        `DataLoader: position is ${position}, expected at most ${this.length}, the batches of an epoch; ` +
          'resume with the data, batch size and number of ranks of the checkpoint',
      )
    this.#sampler.setEpoch?.(epoch)
    this.#epoch = epoch
    this.#position = position
    this.#state = 'restored'
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, void> {
    this.#startEpoch()
    const indices = Uint32Array.from(this.#sampler)
    const ahead: Promise<Batch>[] = []
    let asked = this.#position
    while (this.#position < this.length) {
      for (; asked < this.length && ahead.length <= this.#prefetch; asked++)
        ahead.push(this.#make(indices.subarray(asked * this.#batchSize, (asked + 1) * this.#batchSize)))
      const batch = await ahead.shift()!
      this.#position++
      yield batch
    }
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
