import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { initiateHandshake } from '../../../src/collectives/wire/handshake.js'
import { StoreClient } from '../../../src/runtime/environment/store-client.js'
import { encodeFrame, FrameReader, MAX_FRAME_BYTES } from '../../../src/runtime/environment/store-frames.js'
import { startStore } from '../../../src/runtime/environment/store-server.js'

const host = '127.0.0.1'
const token = 'cd'.repeat(32)
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function store() {
  const refused: Error[] = []
  const started = await startStore({ host, token, onRefused: (error) => refused.push(error) })
  cleanups.push(() => started.close())
  return { ...started, refused }
}

async function client(port: number) {
  const made = await StoreClient.connect({ host, port, token, timeoutMs: 5000 })
  cleanups.push(() => made.close())
  return made
}

describe('store', () => {
  it('gives one rank what another has set, before or after it was asked for', async () => {
    const { port } = await store()
    const [a, b, c] = await Promise.all([client(port), client(port), client(port)])
    const early = [b.get('address/0'), c.get('address/0')]
    await a.set('address/0', 'one ✓')
    expect(await Promise.all(early)).toEqual(['one ✓', 'one ✓'])
    expect(await b.get('address/0')).toBe('one ✓')
    await c.set('address/0', '')
    expect(await a.get('address/0')).toBe('')
  })

  it('answers many waits of one rank, each with its own key', async () => {
    const { port } = await store()
    const [a, b] = await Promise.all([client(port), client(port)])
    const keys = Array.from({ length: 100 }, (_, i) => `key/${i}`)
    const values = Promise.all(keys.map((key) => a.get(key)))
    await Promise.all(keys.toReversed().map((key) => b.set(key, `value of ${key}`)))
    expect(await values).toEqual(keys.map((key) => `value of ${key}`))
  })

  it('times out naming the key, who was waited for and how long', async () => {
    const { port } = await store()
    const a = await client(port)
    await expect(a.get('address/3', 50, 'rank 3')).rejects.toThrow(
      'key "address/3" was not set within 0.05 s: rank 3 was waited for',
    )
    await a.set('address/3', 'late') // the connection is still good
    expect(await a.get('address/3')).toBe('late')
  })

  it('fails what waits when the launcher is gone, and whatever is asked after that', async () => {
    const { port, close } = await startStore({ host, token })
    const a = await client(port)
    const waiting = a.get('never')
    await Promise.all([
      close(),
      expect(waiting).rejects.toThrow(/store at 127\.0\.0\.1:\d+ is gone: ddp-launch has ended/),
    ])
    await expect(a.set('x', 'y')).rejects.toThrow(/is gone/)
    await expect(client(port)).rejects.toThrow(/cannot reach the launcher's store at 127\.0\.0\.1:\d+/)
  })

  it('lets nobody in without the token, and goes on serving', async () => {
    const { port, refused } = await store()
    const stranger = StoreClient.connect({ host, port, token: 'ef'.repeat(32), timeoutMs: 5000 })
    await expect(stranger).rejects.toThrow(/LOCKSTEP_TOKEN/)
    expect(refused[0]?.message).toMatch(/did not prove the job token/)
    const a = await client(port)
    await a.set('still', 'here')
    expect(await a.get('still')).toBe('here')
  })

  it.each([
    [
      'a length that is too large',
      Buffer.from([0xff, 0xff, 0xff, 0xff]),
      /announces 4294967295 bytes: expected at most/,
    ],
    ['a body that is not JSON', Buffer.from('\0\0\0\x03{{{', 'latin1'), /does not hold JSON/],
    ['an unknown operation', Buffer.from('\0\0\0\x0e{"op":"steal"}', 'latin1'), /neither/],
    ['null', Buffer.from('\0\0\0\x04null', 'latin1'), /neither/],
  ])('closes a connection that sends %s, and goes on serving', async (_, bytes, message) => {
    const { port, refused } = await store()
    const socket = connect({ host, port })
    await once(socket, 'connect')
    await initiateHandshake(socket, token)
    socket.resume().write(bytes)
    await once(socket, 'close')
    expect(refused[0]?.message).toMatch(message)
    await (await client(port)).set('still', 'here')
  })

  it('refuses to carry data', async () => {
    const { port } = await store()
    const a = await client(port)
    await expect(a.set('weights', 'x'.repeat(MAX_FRAME_BYTES))).rejects.toThrow(/the store is for addresses/)
  })

  it('puts frames together however they are cut', () => {
    const messages = Array.from({ length: 5 }, (_, id) => ({ id, value: 'ü'.repeat(id * 7) }))
    const bytes = Buffer.concat(messages.map(encodeFrame))
    for (const step of [1, 2, 3, 7, bytes.length]) {
      const reader = new FrameReader()
      const read: unknown[] = []
      for (let i = 0; i < bytes.length; i += step) read.push(...reader.push(bytes.subarray(i, i + step)))
      expect(read).toEqual(messages)
    }
  })
})
