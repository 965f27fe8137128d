/**
 * The communicator of ranks that share memory: every collective, and `share`, which makes an array one that they can all
 * reach. It runs in the caller's thread: a rank that waits for others has nothing else to do.
 */
import { CheckedCommunicator } from '../runner.js'
import type { SharedMemoryRunner } from './runner.js'

export class SharedMemoryCommunicator extends CheckedCommunicator {
  readonly #shared: SharedMemoryRunner

  constructor(runner: SharedMemoryRunner) {
    super(runner)
    this.#shared = runner
  }

  /**
   * Moves an array, as long on every rank and from `Arena.allocPages`, to memory that all ranks see: later all-reduces of
   * it, or of the same part of it on every rank, copy nothing. What it holds stays. All ranks must call it together.
   * @returns why that could not be done, if so: the array is then as good as any other.
   * @throws LockstepError for an array not on pages of its own; otherwise as any collective.
   */
  share(data: Float32Array): Promise<string | undefined> {
    return this.#shared.share(data)
  }
}
