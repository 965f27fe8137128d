/**
 * One peer's stream of bytes, read into frames: data go to the mailbox of their channel, control frames to their owner.
 * It refuses to keep anything: a frame that is whole is somebody else's.
 */
import type { Mailbox, Reading } from './mailbox.js'
import { decodeHeader, type Frame, HEADER_BYTES } from './wire/frame.js'

export interface InboxOwner {
  /** Where data of this channel go. @throws LockstepError when there are too many channels. */
  mailbox(channel: number): Mailbox
  control(frame: Frame, payload: Uint8Array): void
}

/** Below this, a read straight into its target costs more than the copy that it saves. */
const DIRECT_BYTES = 32 * 1024

export class Inbox {
  readonly #owner: InboxOwner
  readonly #header = new Uint8Array(HEADER_BYTES)
  #headerBytes = 0
  #reading: Reading | undefined
  /** The mailbox that `#reading` belongs to; none for a control frame. */
  #mailbox: Mailbox | undefined
  /** The last frame was read straight into its target: then the next header is read by itself, for the same end. */
  #bulk = false
  #deaf = false

  constructor(owner: InboxOwner) {
    this.#owner = owner
  }

  /**
   * Where the next bytes should be read to, so that they need no copy: `accept` is then given that very memory.
   * Undefined: anywhere.
   */
  get space(): Uint8Array | undefined {
    if (this.#deaf || !this.#bulk) return undefined
    if (!this.#reading) return this.#header.subarray(this.#headerBytes)
    return this.#reading.target.subarray(this.#reading.filled)
  }

  /** Takes all of `bytes`. @throws LockstepError for a malformed header, or one that exceeds a bound. */
  accept(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length && !this.#deaf) {
      at += this.#reading === undefined ? this.#readHeader(bytes, at) : this.#readPayload(bytes, at)
    }
  }

  /** Nothing is listened to any more. */
  deafen(): void {
    this.#deaf = true
    this.#reading = undefined
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
    this.#mailbox = frame.kind === 'data' ? this.#owner.mailbox(frame.channel) : undefined
    const reading = this.#mailbox
      ? this.#mailbox.begin(frame)
      : { frame, target: new Uint8Array(frame.length), filled: 0, direct: false }
    if (!reading) {
      this.deafen()
      return
    }
    this.#reading = reading
    this.#bulk = reading.direct && frame.length >= DIRECT_BYTES
    if (frame.length === 0) this.#finish(reading)
  }

  #readPayload(bytes: Uint8Array, at: number): number {
    const reading = this.#reading!
    const { target, filled, frame } = reading
    const taken = Math.min(frame.length - filled, bytes.length - at)
    const inPlace = bytes.buffer === target.buffer && bytes.byteOffset + at === target.byteOffset + filled
    if (!inPlace) target.set(bytes.subarray(at, at + taken), filled)
    reading.filled += taken
    if (reading.filled === frame.length) this.#finish(reading)
    return taken
  }

  #finish(reading: Reading): void {
    this.#reading = undefined
    if (this.#mailbox) this.#mailbox.end(reading)
    else this.#owner.control(reading.frame, reading.target)
  }
}
