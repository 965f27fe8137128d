/**
 * What a collective's algorithm works with: blocks to and from the other ranks, each checked to belong to the same
 * call. Also how the group ends: by a goodbye, a dead peer, a disagreement or a silence. It runs no algorithm.
 *
 * Detection. Every data frame carries its sender's fingerprint. A frame of an operation that this rank is in or
 * has ended is compared when its header arrives, an early one when this rank begins that operation. In every
 * algorithm each rank sends to its successor in the ring before it waits for anything: so a disagreement meets at
 * least one rank, and that one tells all others in an abort frame.
 */
import { LockstepError } from '../errors.js'
import { type Call, sameCall } from './call.js'
import { closedWorld, disagreement, peerFailed, whereabouts } from './diagnosis.js'
import { CollectiveError, PeerFailedError } from './failures.js'
import type { Flight, FlightRecorder } from './flight-recorder.js'
import { Inbox } from './inbox.js'
import type { Transport, TransportEvents } from './transport.js'
import { BLOCK_BYTES, encodeHeader, type Frame, REASON_BYTES } from './wire/frame.js'

const NOTHING = new Uint8Array(0)

export class Links implements TransportEvents {
  /** Room for one received block that is about to be reduced into the data. */
  readonly scratch = new ArrayBuffer(BLOCK_BYTES)
  /** Payload bytes and data frames handed to the transport so far. */
  bytesSent = 0
  messagesSent = 0
  /** When something last came or left, on this thread's clock in milliseconds. */
  lastProgress = 0
  failure: CollectiveError | undefined
  readonly #transport: Transport
  readonly #recorder: FlightRecorder
  readonly #inboxes: readonly Inbox[]
  readonly #gone = new Set<number>()
  #current: Flight | undefined
  #flushing: ((error: Error) => void) | undefined
  #statuses: Map<number, Frame> | undefined
  #lastHeader: { sequence: number; length: number; bytes: Uint8Array } | undefined

  constructor(transport: Transport, recorder: FlightRecorder) {
    this.#transport = transport
    this.#recorder = recorder
    this.#inboxes = Array.from({ length: transport.size }, (_, peer) => new Inbox(this.#owner(peer)))
    transport.start(this)
  }

  get rank(): number {
    return this.#transport.rank
  }

  get size(): number {
    return this.#transport.size
  }

  /** The ranks that this one is waiting for data from. */
  get awaited(): number[] {
    return this.#others().filter((peer) => this.#inboxes[peer]!.waiting)
  }

  begin(call: Call): Flight {
    if (this.failure) throw this.failure
    this.#current = this.#recorder.start(call)
    this.lastProgress = performance.now()
    for (const peer of this.#others()) {
      const early = this.#inboxes[peer]!.next
      if (early && early.sequence <= this.#current.sequence) this.#agrees(peer, early)
    }
    if (this.failure) throw this.failure
    return this.#current
  }

  end(flight: Flight): void {
    flight.ended = performance.now()
    this.#current = undefined
  }

  /** Hands a block of up to `BLOCK_BYTES` to the link to `peer`; it stays untouched until `flushed`. */
  send(peer: number, payload: Uint8Array): void {
    if (this.#gone.has(peer)) {
      this.fail(this.#closedWorld(peer))
      return
    }
    this.bytesSent += payload.length
    this.messagesSent++
    this.#transport.write(peer, this.#header(payload.length), payload)
  }

  /** Settles once the next block of `peer`, exactly as long as `into`, is in `into`. */
  receive(peer: number, into: Uint8Array): Promise<void> {
    return this.receiveEach(peer, [into], () => {})
  }

  /**
   * Takes the next blocks of `peer` into `targets`, each exactly as long as it, and calls `arrived` with its index
   * as soon as a block is there, before the next one is written. Settles after the last.
   */
  receiveEach(peer: number, targets: readonly Uint8Array[], arrived: (index: number) => void): Promise<void> {
    const inbox = this.#inboxes[peer]!
    if (this.failure) return Promise.reject(this.failure)
    const received = inbox.receive(targets, arrived)
    if (this.#gone.has(peer)) this.#peerLeft(peer)
    if (inbox.hasRoom) this.#transport.resume(peer)
    return received
  }

  /** Settles once all that was sent has left this process. */
  flushed(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(this.failure)
      this.#flushing = reject
      this.#transport.flushed().then(resolve)
    })
  }

  /** Breaks the group: whoever waits gets `error`, and unless they told us, so do all other ranks. */
  fail(error: CollectiveError, tell = true): void {
    if (this.failure) return
    this.failure = error
    error.recentOperations = this.#recorder.report()
    for (const inbox of this.#inboxes) inbox.fail(error)
    this.#flushing?.(error)
    if (tell) this.#tell(error)
    for (const peer of this.#others()) this.#transport.resume(peer)
  }

  /** Asks every rank for its last operation, and gives them `graceMs` to answer. */
  async ask(graceMs: number): Promise<ReadonlyMap<number, Frame>> {
    const statuses = new Map<number, Frame>()
    this.#statuses = statuses
    for (const peer of this.#others()) this.#control(peer, { kind: 'query', sequence: 0, length: 0 })
    await new Promise((resolve) => setTimeout(resolve, graceMs))
    this.#statuses = undefined
    return statuses
  }

  async close(): Promise<void> {
    if (!this.failure) {
      for (const peer of this.#others()) this.#control(peer, { kind: 'goodbye', sequence: 0, length: 0 })
    }
    await this.#transport.close()
  }

  bytes(peer: number, bytes: Uint8Array): boolean {
    if (this.failure) return true
    this.lastProgress = performance.now()
    const inbox = this.#inboxes[peer]!
    try {
      inbox.accept(bytes)
    } catch (cause) {
      if (!(cause instanceof LockstepError)) throw cause
      const reason = `rank ${peer} sent a malformed frame to rank ${this.rank}: ${cause.message}`
      this.fail(new CollectiveError(`${reason}; its link is closed`, { cause }))
      this.#transport.disconnect(peer)
    }
    return inbox.hasRoom
  }

  written(_peer: number): void {
    this.lastProgress = performance.now()
  }

  closed(peer: number, reason: string): void {
    if (this.failure || this.#gone.has(peer)) return
    this.fail(new PeerFailedError(peer, peerFailed(peer, reason, this.rank, this.#whereabouts())))
  }

  /** The header of a data frame of the current operation; most frames of one are alike. */
  #header(length: number): Uint8Array {
    const { sequence, call } = this.#current!
    if (this.#lastHeader?.sequence !== sequence || this.#lastHeader.length !== length) {
      this.#lastHeader = { sequence, length, bytes: encodeHeader({ kind: 'data', sequence, call, length }) }
    }
    return this.#lastHeader.bytes
  }

  #owner(peer: number) {
    return {
      announced: (frame: Frame) => this.#expected(peer, frame),
      mismatched: (frame: Frame, expected: number) => {
        const what = `rank ${peer} sent ${frame.length} bytes of operation ${frame.sequence}`
        this.fail(new CollectiveError(`${what} where rank ${this.rank} expected ${expected}: this is a bug`))
      },
      control: (frame: Frame, payload: Uint8Array) => this.#controlled(peer, frame, payload),
    }
  }

  /** Judges a data frame that has just arrived: one of a later operation waits, unless its turn has come. */
  #expected(peer: number, frame: Frame): boolean {
    const last = this.#recorder.last?.sequence ?? 0
    if (frame.sequence > last && !this.#inboxes[peer]!.waiting) return true
    return this.#agrees(peer, frame)
  }

  /** Compares a frame with this rank's own call of that number. All is lost if they differ. */
  #agrees(peer: number, frame: Frame): boolean {
    const mine = this.#recorder.find(Math.min(frame.sequence, this.#recorder.last?.sequence ?? 0))
    if (
      mine &&
      mine === this.#current &&
      mine.sequence === frame.sequence &&
      sameCall(mine.call, frame.call!)
    ) {
      return true
    }
    this.fail(new CollectiveError(disagreement(this.rank, mine, peer, frame)))
    return false
  }

  #controlled(peer: number, frame: Frame, payload: Uint8Array): void {
    if (frame.kind === 'query') this.#answer(peer)
    else if (frame.kind === 'status') this.#statuses?.set(peer, frame)
    else if (frame.kind === 'abort') this.#aborted(peer, frame, payload)
    else if (frame.kind === 'goodbye') {
      this.#gone.add(peer)
      this.#peerLeft(peer)
    }
  }

  #answer(peer: number): void {
    const last = this.#recorder.last
    const known = last ? { sequence: last.sequence, call: last.call } : { sequence: 0 }
    this.#control(peer, { kind: 'status', ...known, length: 0 })
  }

  #aborted(peer: number, { rank }: Frame, payload: Uint8Array): void {
    const reason = `${printable(payload)} (told by rank ${peer})`
    const failed = rank !== undefined && rank < this.size && rank !== this.rank
    this.fail(failed ? new PeerFailedError(rank, reason) : new CollectiveError(reason), false)
  }

  /** `peer` has closed its world: only wrong if this rank still waits for it. */
  #peerLeft(peer: number): void {
    if (this.#inboxes[peer]!.waiting) this.fail(this.#closedWorld(peer))
  }

  #closedWorld(peer: number): CollectiveError {
    return new CollectiveError(closedWorld(peer, this.rank, this.#whereabouts()))
  }

  #whereabouts(): string {
    return whereabouts(this.#current, this.#recorder.last)
  }

  #tell(error: CollectiveError): void {
    const reason = new TextEncoder().encode(error.message).subarray(0, REASON_BYTES)
    const rank = error instanceof PeerFailedError ? { rank: error.rank } : {}
    const frame: Frame = { kind: 'abort', sequence: 0, length: reason.length, ...rank }
    for (const peer of this.#others()) this.#control(peer, frame, reason)
  }

  #control(peer: number, frame: Frame, payload = NOTHING): void {
    if (!this.#gone.has(peer)) this.#transport.write(peer, encodeHeader(frame), payload)
  }

  #others(): number[] {
    return Array.from({ length: this.size }, (_, peer) => peer).filter((peer) => peer !== this.rank)
  }
}

/** A reason from the wire as one line. */
function printable(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\p{Cc}+/gu, ' ')
}
