/**
 * Frames: what is written is read, and nothing that a stranger could write is believed or paid for in memory.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Call, DTYPES, OPERATIONS } from '../../../src/collectives/call.js'
import { REDUCE_OPS } from '../../../src/collectives/communicator.js'
import { CollectiveError } from '../../../src/collectives/failures.js'
import { FlightRecorder } from '../../../src/collectives/flight-recorder.js'
import { Inbox } from '../../../src/collectives/inbox.js'
import { Links } from '../../../src/collectives/links.js'
import { type MemoryTransport, memoryTransports } from '../../../src/collectives/transports/memory.js'
import {
  BLOCK_BYTES,
  decodeHeader,
  encodeHeader,
  type Frame,
  HEADER_BYTES,
} from '../../../src/collectives/wire/frame.js'
import { decodeHello, encodeHello } from '../../../src/collectives/wire/hello.js'
import { LockstepError } from '../../../src/errors.js'

const calls: fc.Arbitrary<Call> = fc
  .record({
    operation: fc.constantFrom(...OPERATIONS),
    dtype: fc.constantFrom(...DTYPES),
    count: fc.maxSafeNat(),
    reduction: fc.option(fc.constantFrom(...REDUCE_OPS), { nil: undefined }),
    root: fc.option(fc.nat(10_000), { nil: undefined }),
  })
  .map(({ reduction, root, ...call }) => ({
    ...call,
    ...(reduction !== undefined && { reduction }),
    ...(root !== undefined && { root }),
  }))

describe('headers', () => {
  test('every frame survives the wire', () => {
    const data = fc.record({
      kind: fc.constant('data' as const),
      sequence: fc.maxSafeNat(),
      call: calls,
      length: fc.nat(BLOCK_BYTES),
    })
    fc.assert(
      fc.property(data, (frame) => {
        expect(decodeHeader(encodeHeader(frame))).toEqual(frame)
      }),
    )
    const others: Frame[] = [
      { kind: 'abort', sequence: 0, rank: 3, length: 17 },
      { kind: 'abort', sequence: 0, length: 0 },
      { kind: 'goodbye', sequence: 0, length: 0 },
      { kind: 'query', sequence: 0, length: 0 },
      { kind: 'status', sequence: 0, length: 0 },
      { kind: 'status', sequence: 9, call: { operation: 'barrier', dtype: 'uint8', count: 0 }, length: 0 },
    ]
    for (const frame of others) expect(decodeHeader(encodeHeader(frame))).toEqual(frame)
  })

  test('any 32 bytes are a frame within the bounds, or a LockstepError', () => {
    const valid = encodeHeader({ kind: 'goodbye', sequence: 0, length: 0 }).subarray(0, 4)
    const bytes = fc.uint8Array({ minLength: HEADER_BYTES, maxLength: HEADER_BYTES })
    const almost = bytes.map((tail) => Uint8Array.of(...valid, tail[4]! % 6, ...tail.subarray(5)))
    fc.assert(
      fc.property(fc.oneof(bytes, almost), (header) => {
        try {
          expect(decodeHeader(header).length).toBeLessThanOrEqual(BLOCK_BYTES)
        } catch (error) {
          expect(error).toBeInstanceOf(LockstepError)
        }
      }),
      { numRuns: 5000 },
    )
  })

  test.each([
    [0, 0, /magic is 0x/],
    [4, 5, /kind 5 is not one of data, abort/],
    [5, 0, /operation -1 is not one of all_reduce/],
    [6, 4, /dtype 4 is not one of float32/],
    [7, 9, /reduction 8 is not one of sum/],
    [15, 255, /sequence is above 2\^53/],
    [23, 255, /element count is above 2\^53/],
    [31, 1, /announces \d+ bytes, a data frame has at most 131072/],
  ])('byte %i set to %i is told', (at, value, message) => {
    const call: Call = { operation: 'all_reduce', dtype: 'float32', count: 1, reduction: 'sum' }
    const header = encodeHeader({ kind: 'data', sequence: 1, call, length: 4 })
    header[at] = value
    expect(() => decodeHeader(header)).toThrow(message)
  })
})

describe('an inbox', () => {
  test('reads frames from a stream cut anywhere, whether they are awaited or come early', async () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 8 })
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(payloads, cuts, fc.nat(8), async (sent, pieces, early) => {
        const inbox = new Inbox({ announced: () => true, mismatched: expect.fail, control: expect.fail })
        const call: Call = { operation: 'broadcast', dtype: 'uint8', count: 1, root: 0 }
        const stream = Buffer.concat(
          sent.flatMap((payload) => {
            return [encodeHeader({ kind: 'data', sequence: 1, call, length: payload.length }), payload]
          }),
        )
        const received = sent.map((payload) => new Uint8Array(payload.length))
        let done: Promise<unknown> | undefined
        const order: number[] = []
        for (let at = 0, piece = 0; at < stream.length; piece++) {
          const next = at + pieces[piece % pieces.length]!
          if (piece === early) done = inbox.receive(received, (index) => order.push(index))
          inbox.accept(stream.subarray(at, next))
          at = next
        }
        await (done ?? inbox.receive(received, (index) => order.push(index)))
        expect(received).toEqual(sent.map((payload) => Uint8Array.from(payload)))
        expect(order).toEqual([...sent.keys()])
      }),
    )
  })

  test('has no more room once a bounded amount has come early', () => {
    const inbox = new Inbox({ announced: () => true, mismatched: expect.fail, control: expect.fail })
    const call: Call = { operation: 'broadcast', dtype: 'uint8', count: 1, root: 0 }
    const header = encodeHeader({ kind: 'data', sequence: 1, call, length: BLOCK_BYTES })
    let frames = 0
    for (; inbox.hasRoom; frames++) {
      inbox.accept(header)
      inbox.accept(new Uint8Array(BLOCK_BYTES))
    }
    expect(frames).toBeLessThanOrEqual(3)
  })
})

test('a malformed frame fails the group with an error that names the peer, on both sides', async () => {
  const [mine, theirs] = memoryTransports(2) as [MemoryTransport, MemoryTransport]
  const [good, bad] = [new Links(mine, new FlightRecorder()), new Links(theirs, new FlightRecorder())]
  good.begin({ operation: 'barrier', dtype: 'uint8', count: 0 })
  const waiting = good.receive(1, new Uint8Array(0))
  theirs.write(0, new Uint8Array(HEADER_BYTES).fill(7), new Uint8Array(0))
  await expect(waiting).rejects.toThrow(
    /rank 1 sent a malformed frame to rank 0: its magic is 0x7070707, .*; its link is closed/,
  )
  await new Promise((resolve) => setTimeout(resolve, 10))
  expect(bad.failure).toBeInstanceOf(CollectiveError)
  expect(bad.failure?.message).toContain('rank 1 sent a malformed frame')
})

test('a hello of another world is told', () => {
  expect(decodeHello(encodeHello({ rank: 1, size: 3 }), 3)).toEqual({ rank: 1, size: 3 })
  expect(() => decodeHello(encodeHello({ rank: 1, size: 4 }), 3)).toThrow('rank 1 of 4 in a world of 3')
  expect(() => decodeHello(encodeHello({ rank: 3, size: 3 }), 3)).toThrow('rank 3 of 3')
  expect(() => decodeHello(Buffer.alloc(12), 3)).toThrow('sent no hello')
})
