/**
 * Whatever arrives: frames and handshakes that are cut, mutated or noise end in an error that names the peer, at worst.
 * No other exception, no memory above the bounds, no wait without end. FUZZ_FRAMES (npm run test:fuzz: a million) says
 * how many.
 */
import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { type Call, DTYPES, OPERATIONS } from '../../src/collectives/call.js'
import { worldChannel } from '../../src/collectives/channel.js'
import { REDUCE_OPS } from '../../src/collectives/communicator.js'
import { CollectiveError } from '../../src/collectives/failures.js'
import type { Links } from '../../src/collectives/links.js'
import { Switchboard } from '../../src/collectives/switchboard.js'
import type { Transport } from '../../src/collectives/transport.js'
import {
  BLOCK_BYTES,
  encodeHeader,
  type Frame,
  HEADER_BYTES,
  REASON_BYTES,
  WINDOW_BYTES,
} from '../../src/collectives/wire/frame.js'
import { acceptHandshake, initiateHandshake } from '../../src/collectives/wire/handshake.js'
import { readHello } from '../../src/collectives/wire/hello.js'
import { LockstepError } from '../../src/errors.js'

const FRAMES = Number(process.env.FUZZ_FRAMES ?? 20_000)
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31)

/** Mulberry32: 0 … `below` - 1. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

/** Writes nothing, and remembers nothing but that it was told to give a link up. */
class Silence implements Transport {
  readonly rank = 0
  readonly size = 3
  start(): void {}
  write(_peer: number, _header: Uint8Array, _payload: Uint8Array, left: () => void): void {
    queueMicrotask(left)
  }
  disconnect(): void {}
  async close(): Promise<void> {}
}

const KINDS = ['data', 'data', 'data', 'data', 'credit', 'query', 'status', 'abort', 'goodbye'] as const

/** A frame as a peer could send it; most of them right in themselves. */
function frameOf(random: (below: number) => number): Uint8Array {
  const kind = KINDS[random(random(50) === 0 ? 9 : 7)]!
  const longest =
    kind === 'data' ? (random(20) === 0 ? BLOCK_BYTES : 200) : kind === 'abort' ? REASON_BYTES : 0
  const call: Call = {
    operation: OPERATIONS[random(OPERATIONS.length)]!,
    dtype: DTYPES[random(DTYPES.length)]!,
    count: random(1000),
    ...(random(2) === 0 && { reduction: REDUCE_OPS[random(REDUCE_OPS.length)]! }),
  }
  const frame: Frame = {
    kind,
    channel: random(4) === 0 ? random(2 ** 31) : random(5),
    sequence: random(3) === 0 ? random(2 ** 31) : 1,
    length: longest === 0 ? 0 : random(longest + 1),
    ...(kind === 'data' || kind === 'status' ? { call } : {}),
    ...(kind === 'abort' && { rank: random(5) }),
  }
  const bytes = new Uint8Array(HEADER_BYTES + frame.length)
  bytes.set(encodeHeader(frame))
  if (random(10) === 0) bytes[random(HEADER_BYTES)] = random(256)
  if (random(100) === 0) return bytes.subarray(0, random(bytes.length))
  if (random(100) === 0) return bytes.map(() => random(256))
  return bytes
}

test(`${FRAMES} frames, good and bad (FUZZ_SEED=${SEED})`, async () => {
  const random = generator(SEED)
  let failures = 0
  for (let sent = 0; sent < FRAMES; ) {
    const board = new Switchboard(new Silence())
    const links: Links = board.open(worldChannel(3))
    links.begin({ operation: 'all_reduce', dtype: 'float32', count: 50, reduction: 'sum' })
    const target = new Uint8Array(200)
    const waiting = links.receive(1 + random(2), target).then(
      () => undefined,
      (error: unknown) => error,
    )
    for (let i = 0; i < 200 && !board.failure; i++, sent++) {
      const bytes = frameOf(random)
      const cut = random(bytes.length + 1)
      const peer = 1 + random(2)
      board.bytes(peer, bytes.subarray(0, cut)) // an exception ends the test
      board.bytes(peer, bytes.subarray(cut))
    }
    if (!board.failure) board.fail(new CollectiveError('enough'))
    else failures++
    const outcome = await waiting
    if (outcome !== undefined) expect(outcome).toBeInstanceOf(CollectiveError)
    expect(board.failure!.message).not.toContain('\n')
    expect(board.failure!.message.length).toBeLessThan(REASON_BYTES + 1000)
  }
  expect(failures).toBeGreaterThan(0)
}, 600_000)

test('a peer that sends to ever new groups is stopped, within the bounds', () => {
  const random = generator(SEED)
  const board = new Switchboard(new Silence())
  const before = process.memoryUsage().arrayBuffers
  const call: Call = { operation: 'broadcast', dtype: 'uint8', count: 1, root: 0 }
  for (let i = 0; i < 5000 && !board.failure; i++) {
    board.bytes(1, encodeHeader({ kind: 'data', channel: random(2 ** 31), sequence: 1, call, length: 64 }))
    board.bytes(1, new Uint8Array(64))
  }
  expect(board.failure!.message).toMatch(
    /^rank 1 sent a malformed frame to rank 0: it uses more than 1024 groups/,
  )
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(WINDOW_BYTES)
})

/** One end of a connection whose other end sends `pieces` and then, perhaps, nothing more. */
function strangerSaying(pieces: readonly Uint8Array[], ends: boolean): Duplex {
  return new Duplex({
    read() {
      for (const piece of pieces) this.push(piece)
      if (ends) this.push(null)
      this._read = () => {}
    },
    write: (_chunk, _encoding, done) => done(),
  })
}

test(`${FRAMES / 100} handshakes and hellos of strangers (FUZZ_SEED=${SEED})`, async () => {
  const random = generator(SEED + 1)
  const greeting = Buffer.concat([Buffer.from('LOCKSTEP\0\x02', 'latin1'), Buffer.alloc(64, 7)])
  const attempt = async (): Promise<void> => {
    const bytes =
      random(3) === 0 ? new Uint8Array(random(300)).map(() => random(256)) : Uint8Array.from(greeting)
    if (random(2) === 0 && bytes.length > 0) bytes[random(bytes.length)] = random(256)
    const cut = random(bytes.length + 1)
    const pieces = [bytes.subarray(0, cut), bytes.subarray(cut)].filter(({ length }) => length > 0)
    const stream = strangerSaying(pieces, random(2) === 0)
    const way = random(3)
    const timeoutMs = 30
    const admitted =
      way === 0
        ? readHello(stream, 2, timeoutMs)
        : (way === 1 ? acceptHandshake : initiateHandshake)(stream, 'secret', { timeoutMs })
    const outcome = await admitted.then(
      () => undefined,
      (error: unknown) => error,
    )
    stream.destroy()
    expect(outcome).toBeInstanceOf(LockstepError)
  }
  for (let done = 0; done < FRAMES / 100; done += 100) {
    await Promise.all(Array.from({ length: 100 }, attempt))
  }
}, 600_000)
