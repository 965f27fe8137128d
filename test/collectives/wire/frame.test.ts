/**
 * Frames: what is written is read, and nothing that a stranger could write is believed or paid for in memory.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Call, DTYPES, OPERATIONS } from '../../../src/collectives/call.js'
import { worldChannel } from '../../../src/collectives/channel.js'
import { REDUCE_OPS } from '../../../src/collectives/communicator.js'
import { CollectiveError } from '../../../src/collectives/failures.js'
import { Inbox } from '../../../src/collectives/inbox.js'
import type { Links } from '../../../src/collectives/links.js'
import { Mailbox } from '../../../src/collectives/mailbox.js'
import { Outbox } from '../../../src/collectives/outbox.js'
import { Switchboard } from '../../../src/collectives/switchboard.js'
import { type MemoryTransport, memoryTransports } from '../../../src/collectives/transports/memory.js'
import {
  BLOCK_BYTES,
  decodeHeader,
  encodeHeader,
  type Frame,
  HEADER_BYTES,
  WINDOW_BYTES,
} from '../../../src/collectives/wire/frame.js'
import { decodeHello, encodeHello } from '../../../src/collectives/wire/hello.js'
import { LockstepError } from '../../../src/errors.js'

const calls: fc.Arbitrary<Call> = fc
  .record({
    operation: fc.constantFrom(...OPERATIONS),
    dtype: fc.constantFrom(...DTYPES),
    count: fc.maxSafeNat(),
    reduction: fc.option(fc.constantFrom(...REDUCE_OPS), { nil: undefined }),
    number: fc.option(fc.nat(10_000), { nil: undefined }),
  })
  .map(({ reduction, number, ...call }) => ({
    ...call,
    ...(reduction !== undefined && { reduction }),
    ...(number !== undefined && { [call.operation === 'all_gather_uneven' ? 'layout' : 'root']: number }),
  }))

describe('headers', () => {
  test('every frame survives the wire', () => {
    const data = fc.record({
      kind: fc.constant('data' as const),
      channel: fc.maxSafeNat(),
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
      { kind: 'abort', channel: 0, sequence: 0, rank: 3, length: 17 },
      { kind: 'abort', channel: 0, sequence: 0, length: 0 },
      { kind: 'goodbye', channel: 0, sequence: 0, length: 0 },
      { kind: 'status', channel: 0, sequence: 0, length: 0 },
      { kind: 'query', channel: 7, sequence: 0, length: 0 },
      { kind: 'credit', channel: 7, sequence: 4096, length: 0 },
      {
        kind: 'status',
        channel: 0,
        sequence: 9,
        call: { operation: 'barrier', dtype: 'uint8', count: 0 },
        length: 0,
      },
    ]
    for (const frame of others) expect(decodeHeader(encodeHeader(frame))).toEqual(frame)
  })

  test('any header is a frame within the bounds, or a LockstepError', () => {
    const valid = encodeHeader({ kind: 'goodbye', channel: 0, sequence: 0, length: 0 }).subarray(0, 4)
    const bytes = fc.uint8Array({ minLength: HEADER_BYTES, maxLength: HEADER_BYTES })
    const almost = bytes.map((tail) => Uint8Array.of(...valid, tail[4]! % 7, ...tail.subarray(5)))
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
    [4, 6, /kind 6 is not one of data, abort/],
    [5, 0, /operation -1 is not one of all_reduce/],
    [6, 6, /dtype 6 is not one of float32/],
    [7, 9, /reduction 8 is not one of sum/],
    [15, 255, /channel is above 2\^53/],
    [23, 255, /sequence is above 2\^53/],
    [31, 255, /element count is above 2\^53/],
    [39, 1, /announces \d+ bytes, a data frame has at most 262144/],
  ])('byte %i set to %i is told', (at, value, message) => {
    const call: Call = { operation: 'all_reduce', dtype: 'float32', count: 1, reduction: 'sum' }
    const header = encodeHeader({ kind: 'data', channel: 5, sequence: 1, call, length: 4 })
    header[at] = value
    expect(() => decodeHeader(header)).toThrow(message)
  })
})

/** One peer's stream into one mailbox, whose judge agrees to everything. */
function mailbox() {
  const box = new Mailbox()
  box.judge = { announced: () => true, mismatched: expect.fail, taken: () => {} }
  return { box, inbox: new Inbox({ mailbox: () => box, control: expect.fail }) }
}

describe('an inbox', () => {
  const call: Call = { operation: 'broadcast', dtype: 'uint8', count: 1, root: 0 }

  test('reads frames from a stream cut anywhere, whether they are awaited or come early', async () => {
    const payloads = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 8 })
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(payloads, cuts, fc.nat(8), async (sent, pieces, early) => {
        const { box, inbox } = mailbox()
        const stream = Buffer.concat(
          sent.flatMap((payload) => {
            return [
              encodeHeader({ kind: 'data', channel: 5, sequence: 1, call, length: payload.length }),
              payload,
            ]
          }),
        )
        const received = sent.map((payload) => new Uint8Array(payload.length))
        let done: Promise<unknown> | undefined
        const order: number[] = []
        for (let at = 0, piece = 0; at < stream.length; piece++) {
          const next = at + pieces[piece % pieces.length]!
          if (piece === early) done = box.receive(received, (index) => order.push(index))
          inbox.accept(stream.subarray(at, next))
          at = next
        }
        await (done ?? box.receive(received, (index) => order.push(index)))
        expect(received).toEqual(sent.map((payload) => Uint8Array.from(payload)))
        expect(order).toEqual([...sent.keys()])
      }),
    )
  })

  test('has large blocks read straight to where they are awaited', async () => {
    const { box, inbox } = mailbox()
    const target = new Uint8Array(BLOCK_BYTES)
    const done = box.receive([target], () => {})
    inbox.accept(encodeHeader({ kind: 'data', channel: 5, sequence: 1, call, length: BLOCK_BYTES }))
    expect(inbox.space!.buffer).toBe(target.buffer)
    for (let left = BLOCK_BYTES; left > 0; ) {
      const piece = inbox.space!.subarray(0, 50_000)
      piece.fill(7) // as a transport would
      inbox.accept(piece)
      left -= piece.length
    }
    expect(inbox.space!.length).toBe(HEADER_BYTES) // and then the next header, by itself
    await done
    expect(target.every((byte) => byte === 7)).toBe(true)
  })

  test('keeps what comes early up to the window, and calls more of it malformed', () => {
    const { inbox } = mailbox()
    const header = encodeHeader({ kind: 'data', channel: 5, sequence: 1, call, length: BLOCK_BYTES })
    let bytes = 0
    expect(() => {
      for (; bytes < 10 * WINDOW_BYTES; bytes += BLOCK_BYTES + HEADER_BYTES) {
        inbox.accept(header)
        inbox.accept(new Uint8Array(BLOCK_BYTES))
      }
    }).toThrow(`it exceeds the window of ${WINDOW_BYTES} bytes`)
    expect(bytes).toBeLessThanOrEqual(WINDOW_BYTES + BLOCK_BYTES + HEADER_BYTES)
  })
})

test('an outbox sends a window ahead, and the rest as it is taken', () => {
  let written = 0
  const outbox = new Outbox((header, payload) => {
    written += header.length + payload.length
  })
  const [header, payload] = [new Uint8Array(HEADER_BYTES), new Uint8Array(BLOCK_BYTES)]
  const frames = 100
  for (let i = 0; i < frames; i++) outbox.send(header, payload)
  for (let taken = 0; outbox.blocked; taken += WINDOW_BYTES / 4) {
    expect(written - taken).toBeGreaterThanOrEqual(WINDOW_BYTES)
    expect(written - taken).toBeLessThan(WINDOW_BYTES + BLOCK_BYTES + HEADER_BYTES)
    outbox.credit(WINDOW_BYTES / 4)
  }
  expect(written).toBe(frames * (HEADER_BYTES + BLOCK_BYTES))
})

test('a malformed frame fails the group with an error that names the peer, on both sides', async () => {
  const [mine, theirs] = memoryTransports(2) as [MemoryTransport, MemoryTransport]
  const [good, bad] = [mine, theirs].map((transport) => {
    return new Switchboard(transport).open(worldChannel(2))
  }) as [Links, Links]
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
