/**
 * How ranks that share memory wait for each other: numbered syncs, at each of which every rank shows the call that it is
 * in. Also how the group ends: by a dead process, a disagreement, a goodbye or a silence. It moves no numbers.
 *
 * A sync. Rank r has two lines, used in turn. To arrive at sync g it writes the fingerprint of its call to line g & 1, then
 * g to that line's first word; it has synced when it has seen g in that word of every other rank, and compared. A line
 * is written again at g + 2, when its rank has seen every other one arrive at g + 1: all of them have read it by then.
 * So a word holds g - 2 or g to whoever waits for g, and equality is the test: it survives the wrap at 2^32.
 *
 * Orderings. The generation is stored with Atomics.store after all that belongs to it, in program order: its fingerprint
 * and whatever numbers were written for the others (release). It is read with Atomics.load before any of that is (acquire).
 * So whoever has synced sees what all ranks wrote before they arrived; and nobody reads later than it arrives at the
 * next sync, so what was read may be overwritten after that. JavaScript's atomics are sequentially consistent on
 * non-shared buffers too (they compile to the same instructions); one place needs more than acquire and release, sleeping:
 *
 *      who sleeps                          who arrives
 *        sleepers += 1                       word = g
 *        futex: word still old? sleep        sleepers > 0? wake
 *
 * Each writes one word and then reads the other's. Were the read allowed to pass the write, both could miss each other.
 *
 * Waiting costs the core that another rank may need: so it spins only when every rank has a core, then yields about a
 * hundred times, then sleeps on a futex. After every `SLICE_MS` the event loop gets a turn: this thread has nothing to
 * compute, but timers, signals and messages must not starve while a peer loads data for a minute.
 *
 * A dead peer. Every rank watches the others' processes (pidfd, readable as soon as a process has ended, also one that
 * became a zombie and one killed in mid-write), once per slice: no socket, no thread and no launcher is needed to
 * tell it. It matters only if the dead rank has not arrived. Who finds one writes the abort word, so that the others, who
 * could see the finder's own end first, blame the right rank.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { type Call, describeCall } from '../call.js'
import { CollectiveError, PeerFailedError } from '../failures.js'
import { codeOf, readCall } from './fingerprint.js'
import {
  ABORT,
  CODE,
  COUNT_HIGH,
  COUNT_LOW,
  FAILED,
  GENERATION,
  LEFT,
  lineOf,
  OFFSET,
  REASON_BYTES,
  REASON_LENGTH,
  REGION,
  reasonOf,
  SEQUENCE,
  SLEEPERS,
  stateOf,
} from './layout.js'
import { OperationLog } from './log.js'
import type { System } from './system.js'

export interface Waiting {
  /** Looks at a peer's word before yielding: about 10 ns each. 0 where ranks outnumber cores. */
  readonly spins: number
  readonly yields: number
  /** False: never blocks the thread, which holds several ranks. */
  readonly blocks: boolean
}

/** How long the event loop waits for its turn, in milliseconds; the second after `PATIENCE_MS`. */
const SLICE_MS = 1
const LATER_SLICE_MS = 5
const PATIENCE_MS = 100

const CHECKING: Call = { operation: 'barrier', dtype: 'uint8', count: 0 }
const NOWHERE = { region: 0, offset: 0 }

export interface ControlOptions {
  readonly rank: number
  readonly size: number
  readonly timeoutMs: number
  readonly waiting: Waiting
}

export class Control {
  failure: CollectiveError | undefined
  readonly words: Int32Array
  readonly #bytes: Uint8Array
  readonly #options: ControlOptions
  readonly #rank: number
  readonly #system: System
  readonly #peers: readonly number[]
  /** By rank: descriptors of their processes. */
  readonly #processes: readonly number[]
  readonly #log = new OperationLog(CHECKING)
  /** One word each, of both lines of all ranks: what is slept on. By 2 × rank + parity. */
  readonly #doors: readonly Int32Array[]
  #generation = 0
  /** Index in `#peers` of the first that has not been seen to arrive. */
  #next = 0
  #code = codeOf(CHECKING)
  #region = 0
  #offset = 0

  constructor(buffer: ArrayBuffer, system: System, processes: readonly number[], options: ControlOptions) {
    const { rank, size } = options
    this.words = new Int32Array(buffer)
    this.#bytes = new Uint8Array(buffer)
    this.#system = system
    this.#options = options
    this.#rank = rank
    this.#processes = processes
    this.#peers = Array.from({ length: size }, (_, peer) => peer).filter((peer) => peer !== rank)
    this.#doors = Array.from(
      { length: 2 * size },
      (_, i) => new Int32Array(buffer, (lineOf(i >> 1, i & 1) + GENERATION) * 4, 1),
    )
  }

  /** Opens an operation: its fingerprint goes with every sync until `end`. */
  /** @returns when it began, by `performance.now()`. */
  begin(call: Call): number {
    this.#orderly()
    this.#code = codeOf(call)
    this.show(NOWHERE)
    return this.#log.begin(call).started
  }

  /** Where this rank's numbers of the operation are: `unanimous` tells whether the others' are at the same place. */
  show({ region, offset }: { readonly region: number; readonly offset: number }): void {
    this.#region = region
    this.#offset = offset
  }

  /** @param now what the clock shows; it takes longer to look than some operations do. */
  end(now = performance.now()): void {
    this.#log.last.ended = now
  }

  /**
   * Arrives at the next sync. @returns true if all others have as well, or do so while it spins and yields. If not,
   * `others()` must be awaited: `if (!control.arrive()) await control.others()` costs no promise when nobody is late.
   * @throws CollectiveError when the group is broken.
   */
  arrive(): boolean {
    const generation = (this.#generation + 1) | 0
    const { words } = this
    const line = lineOf(this.#rank, generation)
    const { sequence, call } = this.#log.last
    words[line + SEQUENCE] = sequence
    words[line + CODE] = this.#code
    words[line + COUNT_LOW] = call.count
    words[line + COUNT_HIGH] = call.count / 2 ** 32
    words[line + REGION] = this.#region
    words[line + OFFSET] = this.#offset
    this.#generation = generation
    this.#next = 0
    Atomics.store(words, line + GENERATION, generation)
    if (Atomics.load(words, SLEEPERS) !== 0) {
      this.#system.wake(this.#doors[2 * this.#rank + (generation & 1)]!)
    }
    const { spins, yields } = this.#options.waiting
    if (this.#met(spins)) return true
    for (let i = 0; i < yields; i++) {
      this.#system.yield()
      if (this.#met(1)) return true
    }
    return false
  }

  /** The slow half of a sync. @throws CollectiveError: a rank died, left, disagrees or does not come in time. */
  async others(): Promise<void> {
    const started = performance.now()
    for (;;) {
      const waited = performance.now() - started
      if (this.#options.waiting.blocks) this.#sleep(waited < PATIENCE_MS ? SLICE_MS : LATER_SLICE_MS)
      if (this.#met(1)) return
      this.#inspect(waited)
      await turn()
      if (this.#met(1)) return
    }
  }

  /** Whether every rank shows the place that this one does. To be asked after a sync, before the next. */
  get unanimous(): boolean {
    const { words } = this
    return this.#peers.every((peer) => {
      const line = lineOf(peer, this.#generation)
      return words[line + REGION] === this.#region && words[line + OFFSET] === (this.#offset | 0)
    })
  }

  /** Breaks the group, for all ranks, unless it is broken already. @returns what it is broken by. */
  fail(error: CollectiveError): CollectiveError {
    if (this.failure) return this.failure
    this.failure = error
    error.recentOperations = this.#log.report()
    const state = stateOf(this.#rank)
    const place = this.#bytes.subarray(reasonOf(this.#rank), reasonOf(this.#rank) + REASON_BYTES)
    this.words[state + REASON_LENGTH] = new TextEncoder().encodeInto(error.message, place).written
    this.words[state + FAILED] = error instanceof PeerFailedError ? error.rank + 1 : 0
    // Last, as it publishes the others. Whoever sleeps looks at it after its slice.
    Atomics.compareExchange(this.words, ABORT, 0, this.#rank + 1)
    return error
  }

  /** Tells the other ranks that this one will take part in nothing more. */
  leave(): void {
    Atomics.store(this.words, stateOf(this.#rank) + LEFT, 1)
  }

  /** Up to `looks` looks at each peer that is still missing; true when none is. */
  #met(looks: number): boolean {
    const { words } = this
    const generation = this.#generation
    while (this.#next < this.#peers.length) {
      const line = lineOf(this.#peers[this.#next]!, generation)
      let look = 0
      while (Atomics.load(words, line + GENERATION) !== generation) {
        if (++look >= looks) {
          this.#orderly()
          return false
        }
      }
      if (!this.#agrees(line)) throw this.fail(this.#disagreement(this.#peers[this.#next]!, line))
      this.#next++
    }
    return true
  }

  /** @throws CollectiveError if the group is broken, by this rank or another. */
  #orderly(): void {
    if (this.failure) throw this.failure
    const teller = Atomics.load(this.words, ABORT) - 1
    if (teller < 0) return
    const state = stateOf(teller)
    const at = reasonOf(teller)
    const text = new TextDecoder().decode(this.#bytes.slice(at, at + this.words[state + REASON_LENGTH]!))
    const failed = this.words[state + FAILED]! - 1
    const reason = `${text} (told by rank ${teller})`
    throw this.fail(failed < 0 ? new CollectiveError(reason) : new PeerFailedError(failed, reason))
  }

  #agrees(line: number): boolean {
    const { words } = this
    const { sequence, call } = this.#log.last
    return (
      words[line + CODE] === this.#code &&
      words[line + COUNT_LOW] === (call.count | 0) &&
      words[line + SEQUENCE] === (sequence | 0) &&
      words[line + COUNT_HIGH] === Math.floor(call.count / 2 ** 32)
    )
  }

  #disagreement(peer: number, line: number): CollectiveError {
    const { sequence, call } = this.#log.last
    const theirs = `rank ${peer} called ${describeCall(readCall(this.words, line))} as its operation ${this.words[line + SEQUENCE]}`
    const mine = `rank ${this.#rank} called ${describeCall(call)} as its operation ${sequence}`
    const [first, second] = this.#rank < peer ? [mine, theirs] : [theirs, mine]
    return new CollectiveError(
      `${first}, but ${second}: every rank must call the same collectives in the same order`,
    )
  }

  /** Sleeps until the next missing peer arrives, or for the time given. */
  #sleep(milliseconds: number): void {
    const generation = this.#generation
    const door = this.#doors[2 * this.#peers[this.#next]! + (generation & 1)]!
    const seen = Atomics.load(door, 0)
    if (seen === generation) return
    Atomics.add(this.words, SLEEPERS, 1)
    this.#system.sleep(door, seen, milliseconds)
    Atomics.sub(this.words, SLEEPERS, 1)
  }

  /** Looks for a reason to wait no longer. */
  #inspect(waited: number): void {
    for (const peer of this.#missing()) {
      // In this order: what a rank did before it left or died is seen once its leaving or its death is.
      const left = Atomics.load(this.words, stateOf(peer) + LEFT) !== 0
      const ended = this.#system.ended(this.#processes[peer]!)
      if ((!left && !ended) || this.#arrived(peer)) continue
      this.#orderly()
      throw this.fail(left ? this.#closedWorld(peer) : this.#died(peer))
    }
    if (waited > this.#options.timeoutMs) throw this.fail(this.#silence())
  }

  #missing(): number[] {
    return this.#peers.filter((peer) => !this.#arrived(peer))
  }

  #arrived(peer: number): boolean {
    return Atomics.load(this.words, lineOf(peer, this.#generation) + GENERATION) === this.#generation
  }

  #died(peer: number): PeerFailedError {
    const where = `in operation ${this.#log.last.sequence}, ${describeCall(this.#log.last.call)}`
    return new PeerFailedError(
      peer,
      `rank ${peer} failed: its process ended while rank ${this.#rank} was ${where}`,
    )
  }

  #closedWorld(peer: number): CollectiveError {
    const { sequence, call } = this.#log.last
    return new CollectiveError(
      `rank ${peer} closed its world while rank ${this.#rank} was in operation ${sequence}, ${describeCall(call)}: every rank must call the same collectives in the same order before it closes`,
    )
  }

  #silence(): CollectiveError {
    const { sequence, call } = this.#log.last
    const missing = this.#missing().map((peer) => this.#lastOf(peer, sequence))
    const what = `${describeCall(call)}, operation ${sequence} of rank ${this.#rank}, `
    const silence = `made no progress for ${this.#options.timeoutMs / 1000} s`
    return new CollectiveError(
      `${what}${silence}: ${missing.join(', ')}; see what they are doing, or raise the timeout (LOCKSTEP_TIMEOUT, in seconds)`,
    )
  }

  #lastOf(peer: number, sequence: number): string {
    const lines = [0, 1].map((parity) => lineOf(peer, parity))
    const [line] = lines.sort((a, b) => this.words[b + SEQUENCE]! - this.words[a + SEQUENCE]!)
    const last = this.words[line! + SEQUENCE]!
    if (last >= sequence) return `rank ${peer} has called it, but does not move`
    const lately =
      last === 0
        ? 'it has called none yet'
        : `its last is operation ${last}, ${describeCall(readCall(this.words, line!))}`
    return `rank ${peer} has not called it (${lately})`
  }
}
