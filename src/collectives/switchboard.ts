/**
 * All channels of one rank over one transport: every frame goes to the channel it names, and what ends one channel
 * ends all. It is here that a group of ranks ends: by goodbyes, a dead peer, an abort. It runs no operation.
 */
import { LockstepError } from '../errors.js'
import type { Channel } from './channel.js'
import { closedWorld, peerFailed, whereabouts } from './diagnosis.js'
import { CollectiveError, PeerFailedError } from './failures.js'
import { type Flight, reportOf } from './flight-recorder.js'
import { Inbox } from './inbox.js'
import { type Board, Links } from './links.js'
import { Mailbox } from './mailbox.js'
import type { Transport, TransportEvents } from './transport.js'
import { encodeHeader, type Frame, REASON_BYTES } from './wire/frame.js'

/** The other switchboard of this rank, if it has two: what ends one ends both. */
export interface Twin {
  failed(error: CollectiveError): void
  /** Does the asking for this one. */
  ask?(channel: Channel, graceMs: number): Promise<ReadonlyMap<number, Frame>>
}

/** Channels that peers may use before this rank opens them. */
const UNOPENED_CHANNELS = 1024
const NOTHING = new Uint8Array(0)

export class Switchboard implements Board, TransportEvents {
  failure: CollectiveError | undefined
  readonly #transport: Transport
  readonly #twin: Twin | undefined
  /** By rank in the world. */
  readonly #inboxes: readonly Inbox[]
  /** By channel, then by rank in the world. */
  readonly #mailboxes = new Map<number, Map<number, Mailbox>>()
  readonly #channels = new Map<number, Links>()
  readonly #gone = new Set<number>()
  /** Who asks where others are: by channel, what to do with each answer. */
  readonly #asking = new Map<number, (peer: number, status: Frame) => void>()

  constructor(transport: Transport, twin?: Twin) {
    this.#transport = transport
    this.#twin = twin
    this.#inboxes = Array.from({ length: transport.size }, (_, peer) => new Inbox(this.#owner(peer)))
    transport.start(this)
  }

  get rank(): number {
    return this.#transport.rank
  }

  /** This rank's end of a channel; the same one each time. */
  open(channel: Channel): Links {
    let links = this.#channels.get(channel.id)
    if (!links) {
      links = new Links(this, channel)
      this.#channels.set(channel.id, links)
    }
    return links
  }

  mailbox(channel: number, peer: number): Mailbox {
    let boxes = this.#mailboxes.get(channel)
    if (!boxes) {
      if (this.#mailboxes.size - this.#channels.size > UNOPENED_CHANNELS) {
        throw new LockstepError(`it uses more than ${UNOPENED_CHANNELS} groups that this rank does not know`)
      }
      boxes = new Map()
      this.#mailboxes.set(channel, boxes)
    }
    let box = boxes.get(peer)
    if (!box) {
      box = new Mailbox()
      boxes.set(peer, box)
    }
    return box
  }

  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void): void {
    this.#transport.write(peer, header, payload, left)
  }

  /** Tells one peer something that no operation waits for. */
  control(peer: number, frame: Frame, payload = NOTHING): void {
    if (!this.#gone.has(peer)) this.#transport.write(peer, encodeHeader(frame), payload, () => {})
  }

  /** Asks the members of a channel for their last operation in it, and gives them `graceMs` to answer. */
  async ask(channel: Channel, graceMs: number): Promise<ReadonlyMap<number, Frame>> {
    if (this.#twin?.ask) return this.#twin.ask(channel, graceMs)
    const { id, ranks } = channel
    const statuses = new Map<number, Frame>()
    this.#asking.set(id, (peer, status) => statuses.set(peer, status))
    for (const peer of ranks) {
      if (peer !== this.rank) this.control(peer, { kind: 'query', channel: id, sequence: 0, length: 0 })
    }
    await new Promise((resolve) => setTimeout(resolve, graceMs))
    this.#asking.delete(id)
    return statuses
  }

  /** `peer` has closed its world. */
  left(peer: number): boolean {
    return this.#gone.has(peer)
  }

  /** Ends all channels: whoever waits gets `error`, and unless they told us, so do all other ranks. */
  fail(error: CollectiveError, tell = true): void {
    if (this.failure) return
    this.failure = error
    error.recentOperations = reportOf([...this.#channels.values()].map(({ recorder }) => recorder))
    for (const inbox of this.#inboxes) inbox.deafen()
    for (const links of this.#channels.values()) links.failed(error)
    if (tell) this.#tell(error)
    this.#twin?.failed(error)
  }

  async close(): Promise<void> {
    if (!this.failure) {
      for (const peer of this.#others())
        this.control(peer, { kind: 'goodbye', channel: 0, sequence: 0, length: 0 })
    }
    await this.#transport.close()
  }

  bytes(peer: number, bytes: Uint8Array): void {
    if (this.failure) return
    try {
      this.#inboxes[peer]!.accept(bytes)
    } catch (cause) {
      if (!(cause instanceof LockstepError)) throw cause
      const reason = `rank ${peer} sent a malformed frame to rank ${this.rank}: ${cause.message}`
      this.fail(new CollectiveError(`${reason}; its link is closed`, { cause }))
      this.#transport.disconnect(peer)
    }
  }

  space(peer: number): Uint8Array | undefined {
    return this.#inboxes[peer]!.space
  }

  closed(peer: number, reason: string): void {
    if (this.failure || this.#gone.has(peer)) return
    this.fail(new PeerFailedError(peer, peerFailed(peer, reason, this.rank, this.whereabouts())))
  }

  closedWorld(peer: number): CollectiveError {
    return new CollectiveError(closedWorld(peer, this.rank, this.whereabouts()))
  }

  /** Where this rank is, over all its channels. */
  whereabouts(): string {
    const recorders = [...this.#channels.values()].map(({ recorder }) => recorder)
    const last = recorders.map(({ latest }) => latest).filter((flight) => flight !== undefined)
    const latest = (flights: readonly Flight[]) => flights.toSorted((a, b) => a.started - b.started).at(-1)
    return whereabouts(latest(last.filter(({ ended }) => ended === undefined)), latest(last))
  }

  #owner(peer: number) {
    return {
      mailbox: (channel: number) => this.mailbox(channel, peer),
      control: (frame: Frame, payload: Uint8Array) => this.#controlled(peer, frame, payload),
    }
  }

  #controlled(peer: number, frame: Frame, payload: Uint8Array): void {
    if (frame.kind === 'query') this.#answer(peer, frame.channel)
    else if (frame.kind === 'status') this.#asking.get(frame.channel)?.(peer, frame)
    else if (frame.kind === 'abort') this.#aborted(peer, frame, payload)
    else if (frame.kind === 'credit') this.#channels.get(frame.channel)?.credit(peer, frame.sequence)
    else {
      this.#gone.add(peer)
      for (const links of this.#channels.values()) links.peerLeft(peer)
    }
  }

  #answer(peer: number, channel: number): void {
    const last = this.#channels.get(channel)?.recorder.latest
    const known = last ? { sequence: last.sequence, call: last.call } : { sequence: 0 }
    this.control(peer, { kind: 'status', channel, ...known, length: 0 })
  }

  #aborted(peer: number, { rank }: Frame, payload: Uint8Array): void {
    const reason = `${printable(payload)} (told by rank ${peer})`
    const failed = rank !== undefined && rank < this.#transport.size && rank !== this.rank
    this.fail(failed ? new PeerFailedError(rank, reason) : new CollectiveError(reason), false)
  }

  #tell(error: CollectiveError): void {
    const reason = new TextEncoder().encode(error.message).subarray(0, REASON_BYTES)
    const rank = error instanceof PeerFailedError ? { rank: error.rank } : {}
    const frame: Frame = { kind: 'abort', channel: 0, sequence: 0, length: reason.length, ...rank }
    for (const peer of this.#others()) this.control(peer, frame, reason)
  }

  #others(): number[] {
    return Array.from({ length: this.#transport.size }, (_, peer) => peer).filter(
      (peer) => peer !== this.rank,
    )
  }
}

/** A reason from the wire as one line. */
function printable(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\p{Cc}+/gu, ' ')
}
