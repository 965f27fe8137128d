/**
 * WebSocket frames (RFC 6455 §5) of binary messages: written by either end, read by a client. A payload is handed on as it
 * comes, however it was cut into frames and messages on the way; nothing of it is kept. It refuses masks, text and
 * extensions, which no server of ours sends.
 */
import { LockstepError } from '../../errors.js'
import { BLOCK_BYTES, HEADER_BYTES } from './frame.js'

export const OPCODES = { continuation: 0, binary: 2, close: 8, ping: 9, pong: 10 } as const
const READ: ReadonlySet<number> = new Set(Object.values(OPCODES))

/** The longest payload: a block behind its header. */
export const LONGEST_BYTES = HEADER_BYTES + BLOCK_BYTES
/** The longest header, without a mask. */
export const LONGEST_HEADER_BYTES = 10
const LONGEST_CONTROL_BYTES = 125
/** Of the first byte. */
const [FINAL, RESERVED, OPCODE] = [0x80, 0x70, 0x0f]
/** Of the second; the other bits are the length, or 126 or 127: it follows in two or eight bytes. */
const MASKED = 0x80

/** A message of one frame: its header and as much of its payload, which has `length` bytes, as `bytes` are. */
export function encodeFrame(opcode: number, bytes: Uint8Array, length = bytes.length): Uint8Array {
  const code = length < 126 ? length : length < 2 ** 16 ? 126 : 127
  const at = headerBytes(code)
  const frame = new Uint8Array(at + bytes.length)
  frame[0] = FINAL | opcode
  frame[1] = code
  if (code === 126) new DataView(frame.buffer).setUint16(2, length)
  if (code === 127) new DataView(frame.buffer).setBigUint64(2, BigInt(length))
  frame.set(bytes, at)
  return frame
}

/** As a client has to write it: hidden by a mask of four random bytes. */
export function encodeMasked(opcode: number, payload: Uint8Array, mask: Uint8Array): Uint8Array {
  const hidden = payload.map((byte, i) => byte ^ mask[i % 4]!)
  const frame = encodeFrame(opcode, Buffer.concat([mask, hidden]), payload.length)
  frame[1]! |= MASKED
  return frame
}

export interface FrameEvents {
  /** Bytes of messages, valid during this call only. */
  payload(bytes: Uint8Array): void
  /** A close, ping or pong. */
  control(opcode: number, payload: Uint8Array): void
}

export class FrameReader {
  readonly #events: FrameEvents
  readonly #header = new Uint8Array(LONGEST_HEADER_BYTES)
  #headerBytes = 0
  /** Bytes that the frame's payload still has. */
  #left = 0
  /** The frame's payload, if it is a control frame. */
  #control: Uint8Array | undefined
  /** A message has begun, and this was not its last frame. */
  #isOpen = false

  constructor(events: FrameEvents) {
    this.#events = events
  }

  /** How many of the next bytes are a message's for certain. */
  get left(): number {
    return this.#control ? 0 : this.#left
  }

  /** Takes all of `bytes`. @throws LockstepError for what a WebSocket server of ours does not send. */
  take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#left > 0) {
        const piece = bytes.subarray(at, at + this.#left)
        at += piece.length
        this.#take(piece)
      } else {
        this.#header[this.#headerBytes++] = bytes[at++]!
        if (this.#headerBytes >= 2 && this.#headerBytes === headerBytes(this.#header[1]!)) this.#begin()
      }
    }
  }

  #take(piece: Uint8Array): void {
    const control = this.#control
    if (control) control.set(piece, control.length - this.#left)
    this.#left -= piece.length
    if (!control) this.#events.payload(piece)
    else if (this.#left === 0) {
      this.#control = undefined
      this.#events.control(this.#header[0]! & OPCODE, control)
    }
  }

  #begin(): void {
    const header = this.#header
    this.#headerBytes = 0
    const opcode = header[0]! & OPCODE
    const isControl = opcode >= OPCODES.close
    const isFinal = (header[0]! & FINAL) !== 0
    const length = lengthOf(header)
    const longest = isControl ? LONGEST_CONTROL_BYTES : LONGEST_BYTES
    if ((header[0]! & RESERVED) !== 0) throw refused('bits of an extension')
    if ((header[1]! & MASKED) !== 0) throw refused('a mask, which is for clients')
    if (!READ.has(opcode)) throw refused(`opcode ${opcode}, expected one of ${[...READ].join(', ')}`)
    if (length > longest) throw refused(`${length} bytes, expected at most ${longest}`)
    if (isControl) {
      if (!isFinal) throw refused(`opcode ${opcode} and is not whole`)
      this.#control = new Uint8Array(length)
    } else {
      const isOpen = opcode === OPCODES.continuation
      if (isOpen !== this.#isOpen)
        throw refused(`opcode ${opcode} ${isOpen ? 'outside' : 'within'} a message`)
      this.#isOpen = !isFinal
    }
    this.#left = length
    if (length === 0 && isControl) this.#take(new Uint8Array(0))
  }
}

function refused(what: string): LockstepError {
  return new LockstepError(`a WebSocket frame has ${what}`)
}

function headerBytes(code: number): number {
  return code === 126 ? 4 : code === 127 ? 10 : 2
}

function lengthOf(header: Uint8Array): number {
  const view = new DataView(header.buffer)
  const code = header[1]!
  return code === 126 ? view.getUint16(2) : code === 127 ? Number(view.getBigUint64(2)) : code
}
