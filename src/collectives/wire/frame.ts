/**
 * The frame: what travels between two ranks once they have shaken hands. A header of fixed size, then `length`
 * bytes of payload. A header is judged whole, before any memory is taken for what it announces.
 * The layout is drawn in docs/wire-format.md.
 */
import { LockstepError } from '../../errors.js'
import { type Call, DTYPES, OPERATIONS } from '../call.js'
import { REDUCE_OPS } from '../communicator.js'

export const HEADER_BYTES = 40
/** The largest payload of a data frame, in bytes. */
export const BLOCK_BYTES = 256 * 1024
/** The longest reason that an abort frame may carry, in bytes of UTF-8. */
export const REASON_BYTES = 4096
/**
 * How far a rank may send ahead of a peer that takes nothing, per channel, in bytes of headers and payloads; the last
 * frame may exceed it. What bounds the memory for data that come early.
 */
export const WINDOW_BYTES = 8 * 1024 * 1024

const MAGIC = 0x4b434f4c // "LOCK" in memory order
const NONE = 0xffff_ffff
const KINDS = ['data', 'abort', 'goodbye', 'query', 'status', 'credit'] as const
export type FrameKind = (typeof KINDS)[number]

const LONGEST: Readonly<Record<FrameKind, number>> = {
  data: BLOCK_BYTES,
  abort: REASON_BYTES,
  goodbye: 0,
  query: 0,
  status: 0,
  credit: 0,
}

export interface Frame {
  readonly kind: FrameKind
  /** data, query, status, credit: whose; else 0. */
  readonly channel: number
  /** data: the operation it belongs to; status: the sender's last; credit: bytes taken; else 0. */
  readonly sequence: number
  /** data and status (if there was one): the sender's call of that sequence number. */
  readonly call?: Call
  /** abort: the rank whose process failed, if that is the reason. */
  readonly rank?: number
  /** Payload bytes that follow. */
  readonly length: number
}

export function encodeHeader(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES)
  const view = new DataView(bytes.buffer)
  const { call } = frame
  view.setUint32(0, MAGIC, true)
  bytes[4] = KINDS.indexOf(frame.kind)
  bytes[5] = call ? OPERATIONS.indexOf(call.operation) + 1 : 0
  bytes[6] = call ? DTYPES.indexOf(call.dtype) : 0
  bytes[7] = call?.reduction ? REDUCE_OPS.indexOf(call.reduction) + 1 : 0
  setUint53(view, 8, frame.channel)
  setUint53(view, 16, frame.sequence)
  setUint53(view, 24, call?.count ?? 0)
  view.setUint32(32, call?.root ?? call?.layout ?? frame.rank ?? NONE, true)
  view.setUint32(36, frame.length, true)
  return bytes
}

/** @throws LockstepError saying which field holds what; the caller knows whose frame it is. */
export function decodeHeader(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES)
  const magic = view.getUint32(0, true)
  if (magic !== MAGIC)
    throw new LockstepError(`its magic is 0x${magic.toString(16)}, not 0x${MAGIC.toString(16)}`)
  const kind = pick(KINDS, bytes[4]!, 'kind')
  const length = view.getUint32(36, true)
  if (length > LONGEST[kind]) {
    throw new LockstepError(`it announces ${length} bytes, a ${kind} frame has at most ${LONGEST[kind]}`)
  }
  const number = view.getUint32(32, true)
  const channel = getUint53(view, 8, 'channel')
  const sequence = getUint53(view, 16, 'sequence')
  if (kind === 'abort') return { kind, channel, sequence, length, ...(number !== NONE && { rank: number }) }
  if (bytes[5] === 0 && kind !== 'data') return { kind, channel, sequence, length }
  const operation = pick(OPERATIONS, bytes[5]! - 1, 'operation')
  const call: Call = {
    operation,
    dtype: pick(DTYPES, bytes[6]!, 'dtype'),
    count: getUint53(view, 24, 'element count'),
    ...(bytes[7] !== 0 && { reduction: pick(REDUCE_OPS, bytes[7]! - 1, 'reduction') }),
    ...(number !== NONE && { [operation === 'all_gather_uneven' ? 'layout' : 'root']: number }),
  }
  return { kind, channel, sequence, call, length }
}

function pick<T>(names: readonly T[], index: number, field: string): T {
  const name = names[index]
  if (name === undefined) throw new LockstepError(`its ${field} ${index} is not one of ${names.join(', ')}`)
  return name
}

function setUint53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true)
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true)
}

function getUint53(view: DataView, at: number, field: string): number {
  const value = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
  if (!Number.isSafeInteger(value)) throw new LockstepError(`its ${field} is above 2^53`)
  return value
}
