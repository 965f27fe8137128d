/**
 * What all channels of a world share: whether it still holds, and why not. A failure in one breaks all. Who died, who left,
 * and the reason that the first to fail gives to the others, through the world's control block.
 */
import { CollectiveError, PeerFailedError } from '../failures.js'
import { ABORT, FAILED, LEFT, REASON_BYTES, REASON_LENGTH, reasonOf, stateOf } from './layout.js'
import type { OperationLog } from './log.js'
import type { System } from './system.js'

export class Fate {
  failure: CollectiveError | undefined
  /** One of each channel. */
  readonly logs: OperationLog[] = []
  readonly #words: Int32Array
  readonly #bytes: Uint8Array
  readonly #system: System
  /** By rank: descriptors of their processes. */
  readonly #processes: readonly number[]
  readonly #names: readonly number[]

  /**
   * @param buffer the world's control block
   * @param names what others call the ranks: those of the job, where these are the ranks of one of its hosts
   */
  constructor(
    readonly rank: number,
    buffer: ArrayBuffer,
    system: System,
    processes: readonly number[],
    names: readonly number[],
  ) {
    this.#words = new Int32Array(buffer)
    this.#bytes = new Uint8Array(buffer)
    this.#system = system
    this.#processes = processes
    this.#names = names
  }

  /** The rank that users know. */
  nameOf(rank: number): number {
    return this.#names[rank]!
  }

  /** @throws CollectiveError if the world is broken, by this rank or another. */
  orderly(): void {
    if (this.failure) throw this.failure
    const teller = Atomics.load(this.#words, ABORT) - 1
    if (teller < 0) return
    const failed = this.#words[stateOf(teller) + FAILED]! - 1
    const reason = `${this.reasonOf(teller)} (told by rank ${this.nameOf(teller)})`
    throw this.fail(failed < 0 ? new CollectiveError(reason) : new PeerFailedError(failed, reason))
  }

  /** Breaks the world, for all ranks, unless it is broken already. @returns what it is broken by. */
  fail(error: CollectiveError): CollectiveError {
    if (this.failure) return this.failure
    this.failure = error
    error.recentOperations = this.logs.flatMap((log) => log.report())
    this.explain(error.message)
    this.#words[stateOf(this.rank) + FAILED] = error instanceof PeerFailedError ? error.rank + 1 : 0
    // Last, as it publishes the others. Whoever sleeps looks at it after its slice.
    Atomics.compareExchange(this.#words, ABORT, 0, this.rank + 1)
    return error
  }

  /** Writes this rank's reason for whoever is told, by other means, to read it. */
  explain(reason: string): void {
    const place = this.#bytes.subarray(reasonOf(this.rank), reasonOf(this.rank) + REASON_BYTES)
    this.#words[stateOf(this.rank) + REASON_LENGTH] = new TextEncoder().encodeInto(reason, place).written
  }

  reasonOf(rank: number): string {
    const length = this.#words[stateOf(rank) + REASON_LENGTH]!
    return new TextDecoder().decode(this.#bytes.slice(reasonOf(rank), reasonOf(rank) + length))
  }

  /** Tells the other ranks that this one will take part in nothing more. */
  leave(): void {
    Atomics.store(this.#words, stateOf(this.rank) + LEFT, 1)
  }

  hasLeft(peer: number): boolean {
    return Atomics.load(this.#words, stateOf(peer) + LEFT) !== 0
  }

  hasEnded(peer: number): boolean {
    return this.#system.ended(this.#processes[peer]!)
  }
}
