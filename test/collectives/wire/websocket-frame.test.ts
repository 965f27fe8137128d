/**
 * WebSocket frames: beside `ws`, which writes what is read here and reads what is written here.
 */
import type { Writable } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as ws from 'ws'
import {
  encodeFrame,
  encodeMasked,
  FrameReader,
  LONGEST_BYTES,
  LONGEST_HEADER_BYTES,
  OPCODES,
} from '../../../src/collectives/wire/websocket-frame.js'
import { LockstepError } from '../../../src/errors.js'

/** What `ws` has, and its types have not. */
const { Sender, Receiver } = ws as unknown as {
  Sender: { frame(payload: Buffer, options: object): Buffer[] }
  Receiver: new (options: object) => Writable
}

type Written = readonly [opcode: number, payload: Uint8Array]

const frameOf = (opcode: number, payload: Uint8Array, options: object = {}) =>
  Buffer.concat(
    Sender.frame(Buffer.from(payload), { opcode, fin: true, mask: false, rsv1: false, ...options }),
  )

/** Around each length at which another form of it begins. */
const lengths = fc.oneof(
  fc.nat(200),
  fc.constantFrom(0, 125, 126, 65_535, 65_536, LONGEST_BYTES),
  fc.nat(70_000),
)
/** Made only when it is needed: fast-check would print it. */
const payloads = fc.record({ length: lengths, seed: fc.nat(255) })
const bytesOf = ({ length, seed }: { length: number; seed: number }) =>
  Uint8Array.from({ length }, (_, i) => i + seed)
const controls = fc.tuple(
  fc.constantFrom(OPCODES.ping, OPCODES.pong, OPCODES.close),
  fc.uint8Array({ maxLength: 125 }),
)
/** One message in so many frames, each with control frames behind it. */
const messages = fc.array(fc.tuple(payloads, fc.array(controls, { maxLength: 2 })), {
  minLength: 1,
  maxLength: 4,
})

/** All of `bytes` in pieces, over and over of these lengths. */
function* cut(bytes: Uint8Array, pieces: readonly number[]): Iterable<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = pieces[i % pieces.length]!
    yield bytes.slice(at, at + length)
    at += length
  }
}

/** Reads as the transport does: where it is known that payload comes, no further than that. */
function read(bytes: Uint8Array, pieces: readonly number[] = [bytes.length || 1]) {
  const payload: Uint8Array[] = []
  const controls: Written[] = []
  const reader = new FrameReader({
    payload: (piece) => payload.push(piece.slice()),
    control: (opcode, payload) => controls.push([opcode, payload]),
  })
  for (const piece of cut(bytes, pieces)) {
    const { left } = reader
    const before = payload.length
    reader.take(piece.subarray(0, left))
    const taken = payload.length === before ? 0 : payload.at(-1)!.length
    if (taken !== Math.min(left, piece.length)) throw new Error(`of ${left} bytes ${taken} were payload`)
    reader.take(piece.subarray(left))
  }
  return { payload: Buffer.concat(payload), controls }
}

describe('reading', () => {
  test('all that ws writes, in whatever frames and pieces', () => {
    const pieces = fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 300_000 })), {
      minLength: 1,
      maxLength: 5,
    })
    fc.assert(
      fc.property(fc.array(messages, { maxLength: 4 }), pieces, (all, pieces) => {
        const frames = all.flatMap((parts) =>
          parts.flatMap(([payload, controls], i) => [
            frameOf(i === 0 ? OPCODES.binary : OPCODES.continuation, bytesOf(payload), {
              fin: i === parts.length - 1,
            }),
            ...controls.map(([opcode, payload]) => frameOf(opcode, payload)),
          ]),
        )
        const result = read(Buffer.concat(frames), pieces)
        const parts = all.flat()
        expect(result.payload.equals(Buffer.concat(parts.map(([payload]) => bytesOf(payload))))).toBe(true)
        expect(result.controls).toEqual(parts.flatMap(([, controls]) => controls))
      }),
      { numRuns: 30 },
    )
  })

  const one = Uint8Array.of(1)
  test.each<[string, Uint8Array, RegExp]>([
    ['a mask', encodeMasked(OPCODES.binary, one, Uint8Array.of(1, 2, 3, 4)), /has a mask/],
    ['an extension', frameOf(OPCODES.binary, one, { rsv1: true }), /has bits of an extension/],
    ['text', frameOf(1, one), /has opcode 1, expected one of 0, 2, 8, 9, 10/],
    ['an unknown opcode', frameOf(11, one), /has opcode 11/],
    [
      'too long a frame',
      encodeFrame(OPCODES.binary, one, LONGEST_BYTES + 1),
      /has 262185 bytes, expected at/,
    ],
    [
      'a length above 2^53',
      Uint8Array.of(0x82, 127, ...Array(8).fill(255)),
      /bytes, expected at most 262184/,
    ],
    ['too long a ping', encodeFrame(OPCODES.ping, one, 126), /has 126 bytes, expected at most 125/],
    ['half a ping', frameOf(OPCODES.ping, one, { fin: false }), /has opcode 9 and is not whole/],
    ['a continuation of nothing', frameOf(OPCODES.continuation, one), /has opcode 0 outside a message/],
    [
      'a message within another',
      Buffer.concat([frameOf(OPCODES.binary, one, { fin: false }), frameOf(OPCODES.binary, one)]),
      /has opcode 2 within a message/,
    ],
  ])('%s is refused', (_, bytes, message) => {
    for (const pieces of [[bytes.length], [1]]) {
      expect(() => read(bytes, pieces)).toThrow(LockstepError)
      expect(() => read(bytes, pieces)).toThrow(message)
    }
  })

  test('noise is read or refused, and nothing is made up', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.integer({ min: 1, max: 50 }), (bytes, piece) => {
        try {
          expect(read(bytes, [piece]).payload.length).toBeLessThanOrEqual(bytes.length)
        } catch (error) {
          expect(error).toBeInstanceOf(LockstepError)
        }
      }),
    )
  })
})

describe('writing', () => {
  test('as ws does', () => {
    fc.assert(
      fc.property(payloads, (made) => {
        const payload = bytesOf(made)
        const expected = frameOf(OPCODES.binary, payload)
        expect(expected.equals(encodeFrame(OPCODES.binary, payload))).toBe(true)
        const header = payload.subarray(0, 40)
        const rest = payload.subarray(header.length)
        const begun = encodeFrame(OPCODES.binary, header, payload.length)
        expect(expected.equals(Buffer.concat([begun, rest]))).toBe(true)
      }),
      { numRuns: 50 },
    )
    expect(LONGEST_HEADER_BYTES).toBe(
      encodeFrame(OPCODES.binary, new Uint8Array(LONGEST_BYTES)).length - LONGEST_BYTES,
    )
  })

  test("a client's is read by ws", async () => {
    const mask = fc.uint8Array({ minLength: 4, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(payloads, mask, async (made, mask) => {
        const payload = bytesOf(made)
        const receiver = new Receiver({ isServer: true })
        const message = new Promise<Buffer>((resolve) => receiver.once('message', resolve))
        receiver.write(encodeMasked(OPCODES.binary, payload, mask))
        expect((await message).equals(payload)).toBe(true)
      }),
      { numRuns: 50 },
    )
  })
})
