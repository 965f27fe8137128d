/**
 * Both ends of a WebSocket link beside an end of somebody else's: they are WebSockets to everybody.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { Sending } from '../../src/collectives/transports/link.js'
import type { Address } from '../../src/collectives/transports/mesh.js'
import { WebSocketDoor } from '../../src/collectives/transports/websocket.js'
import { encodeFrame, OPCODES } from '../../src/collectives/wire/websocket-frame.js'

const door = () => new WebSocketDoor({ token: 'secret' })
/** By a close frame without a reason. */
const CLOSED = 1005
const never = () => undefined

const servers: { close(): unknown }[] = []
afterEach(() => {
  vi.useRealTimers()
  for (const server of servers.splice(0)) server.close()
})

async function addressOf(server: Server | WebSocketServer): Promise<Address> {
  servers.push(server)
  await once(server, 'listening')
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

/** A rank's receiving end, and a server's of `ws`, which sends to it. */
async function received() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/lockstep' })
  const coming = once(server, 'connection')
  const receiving = await door().dial(await addressOf(server))
  const [peer] = (await coming) as [WebSocket]
  const bytes: Uint8Array[] = []
  const closed = new Promise<string>((resolve) => {
    receiving.start((piece) => bytes.push(piece.slice()), never, resolve)
  })
  return { receiving, peer, closed, bytes: () => Buffer.concat(bytes).toString() }
}

/** A rank's sending end, and a client's of `ws`. */
async function sent(host = '127.0.0.1') {
  const own = door()
  servers.push(own)
  const coming = new Promise<Sending>((resolve) => {
    void own.open(host, resolve).then(({ port }) => {
      peer = new WebSocket(`ws://${host.includes(':') ? `[${host}]` : host}:${port}/lockstep`)
    })
  })
  let peer!: WebSocket
  const sending = await coming
  return { sending, peer }
}

test('messages in several frames, and what comes with the answer to the upgrade', async () => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/lockstep' })
  server.on('connection', (peer) => {
    peer.send('lock', { binary: true, fin: false })
    peer.send('st', { binary: true, fin: false })
    peer.ping()
    peer.send('ep', { binary: true })
    peer.close()
  })
  const receiving = await door().dial(await addressOf(server))
  let text = ''
  const reason = await new Promise((resolve) => {
    receiving.start((piece) => (text += Buffer.from(piece)), never, resolve)
  })
  expect([text, reason]).toEqual(['lockstep', 'its connection closed'])
})

test('numbers are read to where they are wanted, and frames of all kinds around them are not', async () => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/lockstep' })
  const blocks = Array.from({ length: 16 }, (_, i) => Buffer.alloc(256 * 1024, i + 1))
  server.on('connection', (peer) => {
    for (const [i, block] of blocks.entries()) {
      peer.send(block.subarray(0, 1000), { fin: false })
      if (i % 3 === 0) peer.ping(block.subarray(0, 100))
      peer.send(block.subarray(1000))
    }
    peer.close()
  })
  const receiving = await door().dial(await addressOf(server))
  const target = Buffer.alloc(17 * 256 * 1024)
  let [filled, inPlace] = [0, 0]
  const deliver = (bytes: Uint8Array) => {
    if (bytes.buffer === target.buffer) {
      expect(bytes.byteOffset).toBe(target.byteOffset + filled)
      inPlace += bytes.length
    } else target.set(bytes, filled)
    filled += bytes.length
  }
  await new Promise((resolve) => receiving.start(deliver, () => target.subarray(filled), resolve))
  expect(target.subarray(0, filled).equals(Buffer.concat(blocks))).toBe(true)
  expect(inPlace).toBeGreaterThan(filled / 2)
})

test('pings are answered, and a close', async () => {
  const { peer, closed } = await received()
  peer.ping('are you there')
  expect(String(await once(peer, 'pong'))).toBe('are you there')
  peer.close(1001)
  expect(await closed).toBe('its connection closed')
  expect(await once(peer, 'close')).toMatchObject([1001, {}])
})

test('a close ends the link, whether or not who sent it hangs up', async () => {
  const server = createServer((socket) => {
    socket.once('data', (request) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(String(request))![1]
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
      socket.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join('\r\n')}\r\n\r\n`)
      socket.write(encodeFrame(OPCODES.close, Buffer.of()))
    })
  })
  const receiving = await door().dial(await addressOf(server.listen(0, '127.0.0.1')))
  expect(await new Promise((resolve) => receiving.start(never, never, resolve))).toBe('its connection closed')
})

test('what no rank sends closes the link, and says what it was', async () => {
  const { peer, closed, bytes } = await received()
  peer.on('error', () => {})
  peer.send('fine', { binary: true })
  peer.send('text')
  peer.send('never seen', { binary: true })
  expect(await closed).toBe(
    'its connection failed (a WebSocket frame has opcode 1, expected one of 0, 2, 8, 9, 10)',
  )
  expect(bytes()).toBe('fine')
})

test.each<[string, string, RegExp]>([
  ['no WebSocket', 'HTTP/1.1 404 Not Found\r\n\r\n', /answered 404, expected 101 and a WebSocket/],
  [
    'another key',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: 1\r\n\r\n',
    /no WebSocket server/,
  ],
  ['no HTTP', 'hello\r\n', /Parse Error/],
  ['nothing', '', /hang up/],
])('an answer with %s is refused', async (_, answer, message) => {
  const server = createServer((socket) => socket.once('data', () => socket.end(answer)))
  const address = await addressOf(server.listen(0, '127.0.0.1'))
  await expect(door().dial(address)).rejects.toThrow(message)
})

test('no answer is waited for without end', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const server = createServer((socket) => socket.on('data', () => vi.advanceTimersByTime(5000)))
  const address = await addressOf(server.listen(0, '127.0.0.1'))
  await expect(door().dial(address)).rejects.toThrow('it did not answer within 5 s')
})

test.each(['127.0.0.1', '::1'])(
  'a client at %s sees messages, answers to pings and a close',
  async (host) => {
    const { sending, peer } = await sent(host)
    await once(peer, 'open')
    const messages: Buffer[] = []
    peer.on('message', (message: Buffer) => messages.push(message))
    sending.start(never)
    const payload = Buffer.alloc(256 * 1024, 'payload')
    let left = 0
    sending.write(Buffer.from('header, '), payload, () => left++)
    peer.ping('are you there')
    expect(String(await once(peer, 'pong'))).toBe('are you there')
    sending.write(Buffer.from('and the last'), new Uint8Array(0), () => left++)
    const closing = once(peer, 'close')
    await sending.end()
    expect((await closing)[0]).toBe(CLOSED)
    expect(left).toBe(2)
    expect(messages.map(String)).toEqual([`header, ${payload}`, 'and the last'])
  },
)

test('more than the socket takes stays in order, pings among it', async () => {
  const { sending, peer } = await sent()
  await once(peer, 'open')
  sending.start(never)
  peer.pause()
  const blocks = Array.from({ length: 200 }, (_, i) => Buffer.alloc(100_000, i))
  const gone = blocks.map((block) => new Promise<void>((left) => sending.write(Buffer.of(7), block, left)))
  peer.ping()
  await new Promise((resolve) => setTimeout(resolve, 50)) // until the ping is read, behind a full socket
  let pongs = 0
  peer.on('pong', () => pongs++)
  const messages: Buffer[] = []
  peer.on('message', (message: Buffer) => messages.push(message))
  peer.resume()
  await Promise.all(gone)
  const closing = once(peer, 'close')
  await sending.end()
  expect((await closing)[0]).toBe(CLOSED)
  expect(messages.every((message, i) => message.equals(Buffer.concat([Buffer.of(7), blocks[i]!])))).toBe(true)
  expect([messages.length, pongs]).toEqual([blocks.length, 1])
})
