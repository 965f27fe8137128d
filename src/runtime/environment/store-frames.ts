/**
 * Framing of what store and ranks say to each other: a 4-byte big-endian length, then that many bytes of JSON.
 * It refuses a length above MAX_FRAME_BYTES before it takes memory for it, and knows nothing of keys.
 */
import { LockstepError } from '../../errors.js'

export const MAX_FRAME_BYTES = 1 << 20
const PREFIX_BYTES = 4

export type Request =
  | { readonly id: number; readonly op: 'set'; readonly key: string; readonly value: string }
  | { readonly id: number; readonly op: 'get'; readonly key: string }

/** Answers a `set` when it is done, a `get` (with its value) as soon as the key is set. */
export interface Response {
  readonly id: number
  readonly value?: string
}

/** @throws LockstepError when the message is larger than a frame may be. */
export function encodeFrame(message: object): Buffer {
  const body = Buffer.from(JSON.stringify(message))
  if (body.length > MAX_FRAME_BYTES) {
    throw new LockstepError(
      `a store message has ${body.length} bytes: expected at most ${MAX_FRAME_BYTES}, the store is for addresses, not data`,
    )
  }
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + body.length)
  frame.writeUInt32BE(body.length)
  body.copy(frame, PREFIX_BYTES)
  return frame
}

/** Puts the frames of one connection together again, wherever the network has cut them. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0)

  /** The messages that `chunk` completes. @throws LockstepError for a length or a body that no peer of ours sends. */
  push(chunk: Buffer): unknown[] {
    const messages: unknown[] = []
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    while (this.#pending.length >= PREFIX_BYTES) {
      const length = this.#pending.readUInt32BE()
      if (length > MAX_FRAME_BYTES) {
        throw new LockstepError(`a frame announces ${length} bytes: expected at most ${MAX_FRAME_BYTES}`)
      }
      if (this.#pending.length < PREFIX_BYTES + length) break
      messages.push(parse(this.#pending.subarray(PREFIX_BYTES, PREFIX_BYTES + length)))
      this.#pending = this.#pending.subarray(PREFIX_BYTES + length)
    }
    return messages
  }
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch (cause) {
    throw new LockstepError('a frame does not hold JSON: expected a message of the store', { cause })
  }
}

/** @throws LockstepError unless `message` is a request. */
export function asRequest(message: unknown): Request {
  const m = message as Partial<Record<'id' | 'op' | 'key' | 'value', unknown>> | null
  const known = m?.op === 'get' || (m?.op === 'set' && typeof m.value === 'string')
  if (!known || !Number.isSafeInteger(m.id) || typeof m.key !== 'string') {
    throw new LockstepError('a message is neither {id, op: "get", key} nor {id, op: "set", key, value}')
  }
  return m as Request
}

/** @throws LockstepError unless `message` is a response. */
export function asResponse(message: unknown): Response {
  const m = message as Partial<Record<'id' | 'value', unknown>> | null
  if (!Number.isSafeInteger(m?.id) || (m?.value !== undefined && typeof m.value !== 'string')) {
    throw new LockstepError('a message is not {id, value?}')
  }
  return m as Response
}
