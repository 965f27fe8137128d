/**
 * What a collective's algorithm works with: blocks to and from the other ranks of its channel, each checked to belong
 * to the same call. Ranks are those within the channel. It runs no algorithm.
 *
 * Detection. Every data frame carries its sender's fingerprint. A frame of an operation that this rank is in or
 * has ended is compared when its header arrives, an early one when this rank begins that operation. In every
 * algorithm each rank sends to its successor in the ring before it waits for anything: so a disagreement meets at
 * least one rank, and that one tells all others in an abort frame.
 */
import { type Call, type Dtype, sameCall, viewOf } from './call.js'
import type { Channel } from './channel.js'
import type { Numbers } from './communicator.js'
import { disagreement } from './diagnosis.js'
import { CollectiveError } from './failures.js'
import { type Flight, FlightRecorder } from './flight-recorder.js'
import { roomFor } from './kernels/anywhere.js'
import type { Judge, Mailbox } from './mailbox.js'
import { Outbox } from './outbox.js'
import { BLOCK_BYTES, encodeHeader, type Frame, WINDOW_BYTES } from './wire/frame.js'

/** What a channel needs of the switchboard that it is on. Peers are ranks in the world. */
export interface Board {
  readonly rank: number
  readonly failure: CollectiveError | undefined
  mailbox(channel: number, peer: number): Mailbox
  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void): void
  control(peer: number, frame: Frame): void
  ask(channel: Channel, graceMs: number): Promise<ReadonlyMap<number, Frame>>
  left(peer: number): boolean
  closedWorld(peer: number): CollectiveError
  fail(error: CollectiveError): void
}

export class Links {
  readonly rank: number
  readonly size: number
  readonly recorder: FlightRecorder
  /** Payload bytes and data frames handed to the links so far. */
  bytesSent = 0
  messagesSent = 0
  /** When something last came or left, on this thread's clock in milliseconds. */
  lastProgress = 0
  readonly #board: Board
  readonly #channel: Channel
  readonly #mailboxes: readonly Mailbox[]
  readonly #outboxes: readonly Outbox[]
  #scratch: Uint8Array | undefined
  #current: Flight | undefined
  /** Blocks that have not left yet, and who waits for that. */
  #unsent = 0
  #flushing: { resolve: () => void; reject: (error: Error) => void } | undefined
  #lastHeader: { sequence: number; length: number; bytes: Uint8Array } | undefined

  constructor(board: Board, channel: Channel) {
    const { ranks, id, name } = channel
    this.#board = board
    this.#channel = channel
    this.rank = ranks.indexOf(board.rank)
    this.size = ranks.length
    this.recorder = new FlightRecorder(name)
    this.#outboxes = ranks.map((peer) => {
      return new Outbox((header, payload) => board.write(peer, header, payload, this.#left))
    })
    this.#mailboxes = ranks.map((peer, member) => {
      const mailbox = board.mailbox(id, peer)
      mailbox.judge = this.#judge(member)
      return mailbox
    })
  }

  get failure(): CollectiveError | undefined {
    return this.#board.failure
  }

  /** The ranks (in the world) that data is awaited from. */
  get awaited(): number[] {
    return this.#channel.ranks.filter((_, member) => this.#mailboxes[member]!.waiting)
  }

  /** Room for one received block, of up to `BLOCK_BYTES`, that is about to be reduced into the data. */
  scratch(dtype: Dtype, elements: number): Numbers {
    this.#scratch ??= roomFor(BLOCK_BYTES)
    return viewOf(dtype, this.#scratch.buffer, elements, this.#scratch.byteOffset)
  }

  /** `sequence`: its number, where it was given one already. */
  begin(call: Call, sequence?: number): Flight {
    if (this.failure) throw this.failure
    this.#current = this.recorder.start(call, sequence)
    this.lastProgress = performance.now()
    this.#judgeEarly(this.#current)
    return this.#current
  }

  end(flight: Flight): void {
    this.recorder.end(flight)
    this.#current = undefined
  }

  /** Numbers an operation of this channel that other links run; `recorder.end` ends it. */
  note(call: Call): Flight {
    if (this.failure) throw this.failure
    const flight = this.recorder.start(call)
    this.#judgeEarly(flight)
    return flight
  }

  /** Hands a block of up to `BLOCK_BYTES` to the link to `to`; it stays untouched until `flushed`. */
  send(to: number, payload: Uint8Array): void {
    if (this.failure) return
    const peer = this.#channel.ranks[to]!
    if (this.#board.left(peer)) {
      this.fail(this.#board.closedWorld(peer))
      return
    }
    this.bytesSent += payload.length
    this.messagesSent++
    this.#unsent++
    this.#outboxes[to]!.send(this.#header(payload.length), payload)
  }

  /** Settles once the next block of `from`, exactly as long as `into`, is in `into`. */
  receive(from: number, into: Uint8Array): Promise<void> {
    return this.receiveEach(from, [into], () => {})
  }

  /**
   * Takes the next blocks of `from` into `targets`, each exactly as long as it, and calls `arrived` with its index
   * as soon as a block is there, before the next one is written. Settles after the last.
   */
  receiveEach(from: number, targets: readonly Uint8Array[], arrived: (index: number) => void): Promise<void> {
    if (this.failure) return Promise.reject(this.failure)
    const received = this.#mailboxes[from]!.receive(targets, arrived)
    this.peerLeft(this.#channel.ranks[from]!)
    return received
  }

  /** Settles once all that was sent has left this process. */
  flushed(): Promise<void> {
    if (this.failure) return Promise.reject(this.failure)
    if (this.#unsent === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#flushing = { resolve, reject }
    })
  }

  /** Ends this channel and all others on the same links. */
  fail(error: CollectiveError): void {
    this.#board.fail(error)
  }

  /** Asks the other ranks where they are: by rank in the world, within `graceMs`. */
  ask(graceMs: number): Promise<ReadonlyMap<number, Frame>> {
    return this.#board.ask(this.#channel, graceMs)
  }

  /** The ranks in the world, by rank in this channel. */
  get members(): readonly number[] {
    return this.#channel.ranks
  }

  // What the switchboard tells.

  failed(error: CollectiveError): void {
    for (const mailbox of this.#mailboxes) mailbox.fail(error)
    for (const outbox of this.#outboxes) outbox.clear()
    this.#flushing?.reject(error)
  }

  credit(peer: number, bytes: number): void {
    this.lastProgress = performance.now()
    this.#outboxes[this.#channel.ranks.indexOf(peer)]?.credit(bytes)
  }

  /** If `peer` has closed its world: that is only wrong if this rank still waits for it, or has something for it. */
  peerLeft(peer: number): void {
    const member = this.#channel.ranks.indexOf(peer)
    if (member < 0 || !this.#board.left(peer)) return
    if (this.#mailboxes[member]!.waiting || this.#outboxes[member]!.blocked) {
      this.fail(this.#board.closedWorld(peer))
    }
  }

  /** The header of a data frame of the current operation; most frames of one are alike. */
  #header(length: number): Uint8Array {
    const { sequence, call } = this.#current!
    if (this.#lastHeader?.sequence !== sequence || this.#lastHeader.length !== length) {
      const bytes = encodeHeader({ kind: 'data', channel: this.#channel.id, sequence, call, length })
      this.#lastHeader = { sequence, length, bytes }
    }
    return this.#lastHeader.bytes
  }

  #judgeEarly({ sequence }: Flight): void {
    this.#mailboxes.forEach((mailbox, member) => {
      const early = mailbox.next
      if (early && early.sequence <= sequence) this.#agrees(member, early)
    })
    if (this.failure) throw this.failure
  }

  readonly #left = (): void => {
    this.#unsent--
    this.lastProgress = performance.now()
    if (this.#unsent > 0) return
    this.#flushing?.resolve()
    this.#flushing = undefined
  }

  #judge(member: number): Judge {
    const peer = this.#channel.ranks[member]!
    let owed = 0
    return {
      announced: (frame) => this.#expected(member, frame),
      mismatched: (frame, expected) => {
        const what = `rank ${peer} sent ${frame.length} bytes of operation ${frame.sequence}`
        this.fail(
          new CollectiveError(`${what} where rank ${this.#board.rank} expected ${expected}: this is a bug`),
        )
      },
      taken: (bytes) => {
        this.lastProgress = performance.now()
        owed += bytes
        if (owed < WINDOW_BYTES / 4) return
        this.#board.control(peer, { kind: 'credit', channel: this.#channel.id, sequence: owed, length: 0 })
        owed = 0
      },
    }
  }

  /** Judges a data frame that has just arrived: one of a later operation waits, unless its turn has come. */
  #expected(member: number, frame: Frame): boolean {
    const last = this.recorder.last?.sequence ?? 0
    if (frame.sequence > last && !this.#mailboxes[member]!.waiting) return true
    return this.#agrees(member, frame)
  }

  /** Compares a frame with this rank's own call of that number. All is lost if they differ. */
  #agrees(member: number, frame: Frame): boolean {
    const mine = this.recorder.find(Math.min(frame.sequence, this.recorder.last?.sequence ?? 0))
    if (
      mine &&
      mine === this.#current &&
      mine.sequence === frame.sequence &&
      sameCall(mine.call, frame.call!)
    ) {
      return true
    }
    const { ranks, name } = this.#channel
    this.fail(
      new CollectiveError(
        disagreement({ rank: this.#board.rank, mine, peer: ranks[member]!, theirs: frame, name }),
      ),
    )
    return false
  }
}
