/**
 * One peer's stream of bytes, read into frames: data goes straight to whoever waits for it, control frames to
 * their owner. Data that nobody waits for yet is kept, up to a bound. It refuses to judge what a frame says.
 */
import { BLOCK_BYTES, decodeHeader, type Frame, HEADER_BYTES } from './wire/frame.js'

/** Once this much has come early, the peer is paused. A delivery under way may exceed it by its own size. */
const EARLY_BYTES = 2 * BLOCK_BYTES

export interface InboxOwner {
  /** A data frame's header is there, or its turn has come. False: its sender is not to be listened to any more. */
  announced(frame: Frame): boolean
  /** A data frame of another length than `expected` came where one was waited for. */
  mismatched(frame: Frame, expected: number): void
  control(frame: Frame, payload: Uint8Array): void
}

/** Who waits for the payloads of the next data frames: where each goes, and what to do once it is there. */
interface Waiter {
  readonly targets: readonly Uint8Array[]
  at: number
  readonly arrived: (index: number) => void
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

interface EarlyFrame {
  readonly frame: Frame
  readonly payload: Uint8Array
}

export class Inbox {
  readonly #owner: InboxOwner
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerBytes = 0
  /** The frame being read, where its payload goes, and how much of it has come. */
  #frame: Frame | undefined
  #target: Uint8Array = this.#header
  #filled = 0
  #waiter: Waiter | undefined
  #early: EarlyFrame[] = []
  #earlyBytes = 0
  #spare: ArrayBuffer[] = []
  #deaf = false

  constructor(owner: InboxOwner) {
    this.#owner = owner
  }

  get waiting(): boolean {
    return this.#waiter !== undefined
  }

  get hasRoom(): boolean {
    return this.#earlyBytes < EARLY_BYTES
  }

  /** The first data frame that nobody has taken yet, whole or not. */
  get next(): Frame | undefined {
    return this.#early[0]?.frame ?? (this.#frame?.kind === 'data' && !this.#waiter ? this.#frame : undefined)
  }

  /** Takes all of `bytes`. @throws LockstepError for a malformed header. */
  accept(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length && !this.#deaf) {
      at += this.#frame === undefined ? this.#readHeader(bytes, at) : this.#readPayload(bytes, at)
    }
  }

  /**
   * Takes one data frame for each of `targets`, exactly as long as it, and calls `arrived` with its index as soon as its
   * payload is there. Settles after the last. One promise for all: blocks follow each other in the same delivery.
   */
  receive(targets: readonly Uint8Array[], arrived: (index: number) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiter = { targets, at: 0, arrived, resolve, reject }
      for (let early = this.#early.shift(); early; early = this.#waiter && this.#early.shift()) {
        this.#takeEarly(early, this.#waiter)
      }
      if (this.#waiter && this.#frame?.kind === 'data') this.#takeOver(this.#frame, this.#waiter)
    })
  }

  /** Whoever waits gets `error`, and nothing is listened to any more. */
  fail(error: Error): void {
    this.#deaf = true
    this.#waiter?.reject(error)
    this.#waiter = undefined
    this.#early = []
    this.#earlyBytes = 0
    this.#spare = []
  }

  #takeEarly({ frame, payload }: EarlyFrame, waiter: Waiter): void {
    this.#earlyBytes -= HEADER_BYTES + frame.length
    const into = waiter.targets[waiter.at]!
    if (!this.#owner.announced(frame) || !this.#fits(frame, into)) return
    into.set(payload)
    this.#release(payload)
    this.#hand(waiter)
  }

  /** The frame has begun to arrive: its first bytes move over, the rest will come directly. */
  #takeOver(frame: Frame, waiter: Waiter): void {
    const into = waiter.targets[waiter.at]!
    if (!this.#owner.announced(frame) || !this.#fits(frame, into)) return
    into.set(this.#target.subarray(0, this.#filled))
    this.#release(this.#target)
    this.#target = into
  }

  #fits(frame: Frame, into: Uint8Array): boolean {
    if (frame.length === into.length) return true
    this.#owner.mismatched(frame, into.length)
    return false
  }

  #readHeader(bytes: Uint8Array, at: number): number {
    const taken = Math.min(HEADER_BYTES - this.#headerBytes, bytes.length - at)
    this.#header.set(bytes.subarray(at, at + taken), this.#headerBytes)
    this.#headerBytes += taken
    if (this.#headerBytes === HEADER_BYTES) this.#begin(decodeHeader(this.#header))
    return taken
  }

  #begin(frame: Frame): void {
    this.#headerBytes = 0
    this.#filled = 0
    if (frame.kind === 'data') {
      if (!this.#owner.announced(frame)) return
      const into = this.#waiter?.targets[this.#waiter.at]
      if (into && !this.#fits(frame, into)) return
      this.#target = into ?? this.#block(frame.length)
    } else {
      this.#target = new Uint8Array(frame.length)
    }
    this.#frame = frame
    if (frame.length === 0) this.#finish(frame)
  }

  #readPayload(bytes: Uint8Array, at: number): number {
    const frame = this.#frame!
    const taken = Math.min(frame.length - this.#filled, bytes.length - at)
    this.#target.set(bytes.subarray(at, at + taken), this.#filled)
    this.#filled += taken
    if (this.#filled === frame.length) this.#finish(frame)
    return taken
  }

  #finish(frame: Frame): void {
    this.#frame = undefined
    if (frame.kind !== 'data') {
      this.#owner.control(frame, this.#target)
    } else if (this.#waiter) {
      this.#hand(this.#waiter)
    } else {
      this.#early.push({ frame, payload: this.#target })
      this.#earlyBytes += HEADER_BYTES + frame.length
    }
  }

  #hand(waiter: Waiter): void {
    const index = waiter.at++
    const last = waiter.at === waiter.targets.length
    if (last) this.#waiter = undefined
    waiter.arrived(index)
    if (last) waiter.resolve()
  }

  /** Memory for a payload that comes early; blocks are used again. */
  #block(length: number): Uint8Array {
    return new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(BLOCK_BYTES), 0, length)
  }

  #release(block: Uint8Array): void {
    if (this.#spare.length < 3) this.#spare.push(block.buffer as ArrayBuffer)
  }
}
