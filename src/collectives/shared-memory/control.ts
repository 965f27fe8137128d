/**
 * How ranks that share memory wait for each other: numbered syncs, at each of which every rank shows the call that it is
 * in. Also how that ends: by a dead process, a disagreement, a goodbye or a silence. It moves no numbers.
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
 * compute, but timers, signals and messages must not starve while a peer loads data for a minute. In a background group it
 * may well have something to compute: there it only looks and yields, once a turn, until turns have had nothing in between for
 * some milliseconds. Who has only something to give there may `post`: it arrives at g, and waits for the others' g before it
 * writes for g + 1, so that they find all of it whenever they come; comparing is their part.
 *
 * A dead peer (fate.ts). Every rank watches the others' processes (pidfd, readable as soon as a process has ended, also one that
 * became a zombie and one killed in mid-write), once per slice: no socket, no thread and no launcher is needed to
 * tell it. It matters only if the dead rank has not arrived. Who finds one writes the abort word, so that the others, who
 * could see the finder's own end first, blame the right rank.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { type Call, describeCall } from '../call.js'
import type { Channel } from '../channel.js'
import { CollectiveError, PeerFailedError } from '../failures.js'
import type { Fate } from './fate.js'
import { codeOf, readCall } from './fingerprint.js'
import {
  CODE,
  COUNT_HIGH,
  COUNT_LOW,
  GENERATION,
  LAYOUT,
  lineOf,
  OFFSET,
  REGION,
  SEQUENCE,
  SLEEPERS,
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
/**
 * In the background: how long turns of the event loop are empty before it sleeps, where every rank has a core and where not;
 * and for how long it then sleeps. Several groups may wait, and only one can sleep: an arrival in another wakes nobody.
 */
const [EMPTY_MS, EMPTY_MS_CROWDED] = [5, 0.1]
const BRIEF_SLICE_MS = 0.1

const CHECKING: Call = { operation: 'barrier', dtype: 'uint8', count: 0 }
const NOWHERE = { region: 0, offset: 0 }

export interface ControlOptions {
  readonly timeoutMs: number
  readonly waiting: Waiting
}

export class Control {
  readonly fate: Fate
  readonly words: Int32Array
  readonly #channel: Channel
  readonly #options: ControlOptions
  /** In the channel, as all ranks here; messages name those of the world. */
  readonly #rank: number
  readonly #system: System
  readonly #peers: readonly number[]
  readonly #log = new OperationLog(CHECKING)
  /** One word each, of both lines of all ranks: what is slept on. By 2 × rank + parity. */
  readonly #doors: readonly Int32Array[]
  #generation = 0
  /** Whether this rank showed its last arrival only, and left it to the others to compare. */
  #posted = false
  /** Index in `#peers` of the first that has not been seen to arrive. */
  #next = 0
  #code = codeOf(CHECKING)
  #layout = 0
  #region = 0
  #offset = 0
  /** Of the current operation. */
  #timeoutMs: number

  constructor(buffer: ArrayBuffer, system: System, fate: Fate, channel: Channel, options: ControlOptions) {
    const size = channel.ranks.length
    this.fate = fate
    this.words = new Int32Array(buffer)
    this.#channel = channel
    this.#system = system
    this.#options = options
    this.#timeoutMs = options.timeoutMs
    this.#rank = channel.ranks.indexOf(fate.rank)
    this.#peers = channel.ranks.map((_, peer) => peer).filter((peer) => peer !== this.#rank)
    this.#doors = Array.from(
      { length: 2 * size },
      (_, i) => new Int32Array(buffer, (lineOf(i >> 1, i & 1) + GENERATION) * 4, 1),
    )
    fate.logs.push(this.#log)
  }

  get background(): boolean {
    return this.#channel.background ?? false
  }

  /** Opens an operation: its fingerprint goes with every sync until `end`. */
  begin(call: Call): void {
    this.fate.orderly()
    this.#timeoutMs = this.#options.timeoutMs
    this.#code = codeOf(call)
    this.#layout = call.layout ?? 0
    this.show(NOWHERE)
    this.#log.begin(call)
  }

  /** Where this rank's numbers of the operation are: `unanimous` tells whether the others' are at the same place. */
  show({ region, offset }: { readonly region: number; readonly offset: number }): void {
    this.#region = region
    this.#offset = offset
  }

  /**
   * In this operation a rank may be late because its links to other hosts wait. Their timeout comes first, then, and breaks
   * this group too: it knows better whose fault it is.
   */
  leaveTimeoutToLinks(): void {
    this.#timeoutMs = 2 * this.#options.timeoutMs + 2000
  }

  /** The operation goes on after the call that began it. */
  waits(): void {
    this.#log.waits()
  }

  end(): void {
    this.#log.end()
  }

  /**
   * Arrives at the next sync. @returns true if all others have as well, or do so while it spins and yields. If not,
   * `others()` must be awaited: `if (!control.arrive()) await control.others()` costs no promise when nobody is late.
   * @throws CollectiveError when the group is broken.
   */
  arrive(): boolean {
    this.#show(false)
    if (this.background) return this.#met(1)
    const { spins, yields } = this.#options.waiting
    if (this.#met(spins)) return true
    for (let i = 0; i < yields; i++) {
      this.#system.yield()
      if (this.#met(1)) return true
    }
    return false
  }

  /**
   * Arrives at the next sync and goes on: others who come to it find what this rank has written for them. `followed` must
   * hold, or `others()` be awaited, before it writes there again.
   */
  post(): void {
    this.#show(true)
  }

  /** Whether all others have come to the last sync. @throws CollectiveError when the group is broken. */
  get followed(): boolean {
    return this.#met(1)
  }

  #show(posted: boolean): void {
    const generation = (this.#generation + 1) | 0
    const { words } = this
    const line = lineOf(this.#rank, generation)
    const { sequence, call } = this.#log.last
    words[line + SEQUENCE] = sequence
    words[line + CODE] = this.#code
    words[line + COUNT_LOW] = call.count
    words[line + COUNT_HIGH] = call.count / 2 ** 32
    words[line + LAYOUT] = this.#layout
    words[line + REGION] = this.#region
    words[line + OFFSET] = this.#offset
    this.#generation = generation
    this.#posted = posted
    this.#next = 0
    Atomics.store(words, line + GENERATION, generation)
    if (Atomics.load(words, SLEEPERS) !== 0) {
      this.#system.wake(this.#doors[2 * this.#rank + (generation & 1)]!)
    }
  }

  /** The slow half of a sync. @throws CollectiveError: a rank died, left, disagrees or does not come in time. */
  async others(): Promise<void> {
    const { background } = this
    const started = performance.now()
    const { blocks, spins } = this.#options.waiting
    const patience = background ? (spins > 0 ? EMPTY_MS : EMPTY_MS_CROWDED) : 0
    const slice = background ? BRIEF_SLICE_MS : SLICE_MS
    let [emptySince, inspected] = [started, Number.NEGATIVE_INFINITY]
    for (let now = started; ; ) {
      const waited = now - started
      if (now - emptySince < patience) this.#system.yield()
      else if (blocks) this.#sleep(waited < PATIENCE_MS ? slice : LATER_SLICE_MS)
      if (this.#met(1)) return
      if (now - inspected >= SLICE_MS) {
        this.#inspect(waited)
        inspected = now
      }
      await turn()
      if (this.#met(1)) return
      const before = now
      now = performance.now()
      if (now - before >= SLICE_MS + slice) emptySince = now
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

  /** Up to `looks` looks at each peer that is still missing; true when none is. */
  #met(looks: number): boolean {
    const { words } = this
    const generation = this.#generation
    while (this.#next < this.#peers.length) {
      const line = lineOf(this.#peers[this.#next]!, generation)
      let look = 0
      while (Atomics.load(words, line + GENERATION) !== generation) {
        if (++look >= looks) {
          this.fate.orderly()
          return false
        }
      }
      if (!this.#posted && !this.#agrees(line))
        throw this.fate.fail(this.#disagreement(this.#peers[this.#next]!, line))
      this.#next++
    }
    return true
  }

  #agrees(line: number): boolean {
    const { words } = this
    const { sequence, call } = this.#log.last
    return (
      words[line + CODE] === this.#code &&
      words[line + LAYOUT] === this.#layout &&
      words[line + COUNT_LOW] === (call.count | 0) &&
      words[line + SEQUENCE] === (sequence | 0) &&
      words[line + COUNT_HIGH] === Math.floor(call.count / 2 ** 32)
    )
  }

  #disagreement(peer: number, line: number): CollectiveError {
    const { sequence, call } = this.#log.last
    const theirs = this.#called(peer, readCall(this.words, line), this.words[line + SEQUENCE]!)
    const mine = this.#called(this.#rank, call, sequence)
    const [first, second] = this.#rank < peer ? [mine, theirs] : [theirs, mine]
    return new CollectiveError(
      `${first}, but ${second}: every rank must call the same collectives in the same order`,
    )
  }

  #called(rank: number, call: Call, sequence: number): string {
    return `${this.#name(rank)} called ${describeCall(call)} as its operation ${sequence}${this.#channel.name}`
  }

  #name(rank: number): string {
    return `rank ${this.fate.nameOf(this.#channel.ranks[rank]!)}`
  }

  #describe(call: Call): string {
    return describeCall(call) + this.#channel.name
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
      const world = this.#channel.ranks[peer]!
      // In this order: what a rank did before it left or died is seen once its leaving or its death is.
      const left = this.fate.hasLeft(world)
      const ended = this.fate.hasEnded(world)
      if ((!left && !ended) || this.#arrived(peer)) continue
      this.fate.orderly()
      throw this.fate.fail(left ? this.#closedWorld(peer) : this.#died(peer))
    }
    if (waited > this.#timeoutMs) throw this.fate.fail(this.#silence())
  }

  #missing(): number[] {
    return this.#peers.filter((peer) => !this.#arrived(peer))
  }

  #arrived(peer: number): boolean {
    return Atomics.load(this.words, lineOf(peer, this.#generation) + GENERATION) === this.#generation
  }

  #died(peer: number): PeerFailedError {
    const what = `${this.#name(peer)} failed: its process ended while ${this.#whereabouts()}`
    return new PeerFailedError(this.fate.nameOf(this.#channel.ranks[peer]!), what)
  }

  #closedWorld(peer: number): CollectiveError {
    return new CollectiveError(
      `${this.#name(peer)} closed its world while ${this.#whereabouts()}: every rank must call the same collectives in the same order before it closes`,
    )
  }

  #whereabouts(): string {
    const { sequence, call } = this.#log.last
    return `${this.#name(this.#rank)} was in operation ${sequence}, ${this.#describe(call)}`
  }

  #silence(): CollectiveError {
    const { sequence, call } = this.#log.last
    const missing = this.#missing().map((peer) => this.#lastOf(peer, sequence))
    const what = `${this.#describe(call)}, operation ${sequence} of ${this.#name(this.#rank)}, `
    const silence = `made no progress for ${this.#timeoutMs / 1000} s`
    return new CollectiveError(
      `${what}${silence}: ${missing.join(', ')}; see what they are doing, or raise the timeout (LOCKSTEP_TIMEOUT, in seconds)`,
    )
  }

  #lastOf(peer: number, sequence: number): string {
    const lines = [0, 1].map((parity) => lineOf(peer, parity))
    const line = lines.reduce((a, b) => (this.words[b + SEQUENCE]! > this.words[a + SEQUENCE]! ? b : a))
    const last = this.words[line + SEQUENCE]!
    if (last >= sequence) return `${this.#name(peer)} has called it, but does not move`
    const lately =
      last === 0
        ? 'it has called none yet'
        : `its last is operation ${last}, ${this.#describe(readCall(this.words, line))}`
    return `${this.#name(peer)} has not called it (${lately})`
  }
}
