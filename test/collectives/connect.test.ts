/**
 * Who gets in: ranks of this job, and nobody else, whatever they send or do not send.
 */
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { connectRanks } from '../../src/collectives/connect.js'
import { type AddressExchange, connectTcp } from '../../src/collectives/tcp-communicator.js'
import { listen } from '../../src/collectives/transports/listen.js'
import { TRANSPORT_KINDS } from '../../src/collectives/transports/mesh.js'
import { initiateHandshake } from '../../src/collectives/wire/handshake.js'
import { encodeHello } from '../../src/collectives/wire/hello.js'
import { closeAll, errorsOf, mapExchange, TOKEN } from './groups.js'

const UPGRADE =
  'GET /lockstep HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

/** Gives each stranger a connection to rank 0, and lets rank 1 look for it only once they have spoken. */
function besieged(strangers: readonly ((socket: Socket) => void)[], sockets: Socket[]): AddressExchange {
  const inner = mapExchange()
  return {
    async set(key, value) {
      if (key === 'addr/0') {
        const { host, port } = JSON.parse(value)
        for (const speak of strangers) {
          const socket = port === 0 ? connect(host) : connect({ host, port })
          sockets.push(socket)
          socket.on('error', () => {})
          await new Promise((resolve) => socket.once('connect', resolve))
          speak(socket)
        }
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      await inner.set(key, value)
    },
    get: (key, timeoutMs) => inner.get(key, timeoutMs),
  }
}

test.each(TRANSPORT_KINDS)('%s: strangers are closed, and do not disturb the job', async (kind) => {
  const sockets: Socket[] = []
  const exchange = besieged(
    [
      () => {}, // a port scanner
      (socket) => socket.write('LOCKSTEP\0\x07'), // another version of the protocol
      (socket) => socket.write(UPGRADE.replace('/lockstep', '/other')),
      (socket) => void socket.write(`${UPGRADE}${'\x81\x05hello'.repeat(1000)}`), // a WebSocket, but not one of ours
      (socket) => void socket.write(UPGRADE.slice(0, 40)), // and never the rest
      (socket) => socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      (socket) => socket.write(Buffer.alloc(100_000, 0xff)),
      (socket) => void initiateHandshake(socket, 'another token').catch(() => {}),
      (socket) => {
        void initiateHandshake(socket, TOKEN)
          .then(() => socket.write(encodeHello({ rank: 7, size: 2 })))
          .catch(() => {})
      },
    ],
    sockets,
  )
  const ended = () =>
    Promise.all(sockets.map((s) => s.destroyed || new Promise((resolve) => s.once('close', resolve))))
  const group = await Promise.all(
    [0, 1].map((rank) => connectTcp({ kind, rank, size: 2, token: TOKEN, exchange })),
  )
  for (const socket of sockets) socket.resume()
  await ended()
  const data = group.map(() => Float32Array.of(1))
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  expect(data[1]![0]).toBe(2)
  await closeAll(group)
})

test('a rank with another token is refused, and the refusal names both', async () => {
  const exchange = mapExchange()
  const [, error] = await errorsOf([
    connectTcp({ rank: 0, size: 2, token: TOKEN, exchange, timeoutMs: 1500 }),
    connectTcp({ rank: 1, size: 2, token: 'other', exchange, timeoutMs: 1500 }),
  ])
  expect(error!.message).toMatch(/^rank 1 cannot join rank 0 at 127\.0\.0\.1:\d+: /)
})

test('a rank of a world of another size is told both', async () => {
  const meshes = await Promise.all(
    [2, 3].map((size, rank) =>
      listen('tcp', { rank, size, token: TOKEN, host: '127.0.0.1', timeoutMs: 500 }),
    ),
  )
  const addresses = meshes.map(({ address }) => address)
  const [first] = await errorsOf(meshes.map((mesh) => mesh.connect(addresses)))
  expect(first!.message).toMatch(/rank 0 cannot join rank 1 .*: calls itself rank 1 of 3 in a world of 2/)
})

test('ranks that do not come are named', async () => {
  const exchange = mapExchange()
  await expect(connectTcp({ rank: 1, size: 2, token: TOKEN, exchange, timeoutMs: 200 })).rejects.toThrow(
    /rank 1 waits for rank 0, which has not said its address/,
  )
  const options = { size: 3, token: TOKEN, host: '127.0.0.1', timeoutMs: 300 }
  const [zero, one] = await Promise.all([0, 1].map((rank) => listen('tcp', { rank, ...options })))
  // Rank 2 listens and never dials.
  const two = await listen('tcp', { rank: 2, ...options })
  const addresses = [zero!, one!, two].map(({ address }) => address)
  const errors = await errorsOf([zero!.connect(addresses), one!.connect(addresses)])
  // Whoever's time is up first leaves, which the other may see before its own is.
  const messages = errors.map(({ message }) => message)
  expect(messages.join('\n')).toMatch(/rank \d has no connection with rank 2 after 0.3 s/)
  for (const message of messages) expect(message).toMatch(/with rank 2 after 0.3 s|it left while rank/)
  two.close()
})

test('an address where nobody listens is a rank that failed', async () => {
  const options = { size: 2, token: TOKEN, host: '127.0.0.1', timeoutMs: 2000 }
  const gone = await listen('tcp', { rank: 1, ...options })
  const { port } = gone.address
  gone.close()
  const mesh = await listen('tcp', { rank: 0, ...options })
  const [error] = await errorsOf([
    mesh.connect([
      { host: '', port: 0 },
      { host: '127.0.0.1', port },
    ]),
  ])
  expect(error).toMatchObject({ name: 'PeerFailedError', rank: 1, exitCode: 1 })
  expect(error!.message).toMatch(
    /rank 1 failed: rank 0 cannot connect to it at 127\.0\.0\.1:\d+ \(.*ECONNREFUSED/,
  )
})

test('a host that is not this one is told', async () => {
  const options = { rank: 0, size: 2, token: TOKEN, timeoutMs: 500 }
  await expect(connectTcp({ ...options, host: '192.0.2.1', exchange: mapExchange() })).rejects.toThrow(
    /rank 0 cannot listen on 192.0.2.1: .*; give an address of this host/,
  )
})

test('a WebSocket rank with another token is refused, and one that nobody answers is named', async () => {
  const exchange = mapExchange()
  const options = { kind: 'ws', size: 2, exchange, timeoutMs: 1500 } as const
  const [, error] = await errorsOf([
    connectTcp({ ...options, rank: 0, token: TOKEN }),
    connectTcp({ ...options, rank: 1, token: 'other' }),
  ])
  expect(error!.message).toMatch(/^rank 1 cannot join rank 0 at 127\.0\.0\.1:\d+: /)
})

test('Unix sockets on request', async () => {
  const exchange = mapExchange()
  const options = { size: 3, token: TOKEN, exchange, transport: 'unix' } as const
  const group = await Promise.all([0, 1, 2].map((rank) => connectRanks({ ...options, rank })))
  expect(JSON.parse(await exchange.get('addr/0', 0))).toMatchObject({ port: 0 })
  for (const count of [1, 1000, 300_000]) {
    const data = group.map(({ rank }) => new Float32Array(count).fill(rank + 1))
    await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
    for (const sums of data) expect(sums.every((sum) => sum === 6)).toBe(true)
    await Promise.all(group.map((rank, i) => rank.broadcast(data[i]!.fill(i), 2)))
    for (const copy of data) expect(copy.every((value) => value === 2)).toBe(true)
  }
  await closeAll(group)
})

test('Unix sockets between hosts are refused', async () => {
  const options = { size: 2, token: TOKEN, exchange: mapExchange(), transport: 'unix' } as const
  for (const error of await errorsOf([0, 1].map((rank) => connectRanks({ ...options, rank, node: rank })))) {
    expect(error.message).toMatch(
      /unix is for ranks of one host: rank 1 is not on that of rank 0; use auto or tcp/,
    )
  }
})

test('a web browser is told what is missing', async () => {
  const mesh = await listen('ws', { rank: 0, size: 2, token: TOKEN, host: '127.0.0.1', timeoutMs: 500 })
  const { status, headers } = await fetch(`http://127.0.0.1:${mesh.address.port}/`)
  expect([status, headers.get('upgrade')]).toEqual([426, 'websocket'])
  mesh.close()
})

test('ranks meet through a proxy that knows HTTP only', async () => {
  const relays: Server[] = []
  const inner = mapExchange()
  const exchange: AddressExchange = {
    async set(key, value) {
      // What is published is the proxy's address.
      const { host, port } = JSON.parse(value)
      const relay = createServer().on('upgrade', (request, socket, head) => {
        const onward = connect({ host, port }, () => {
          const lines = Object.entries(request.headers).map(([name, text]) => `${name}: ${text}\r\n`)
          onward.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('')}\r\n`)
          onward.write(head)
          onward.pipe(socket).pipe(onward)
        })
        for (const end of [onward, socket]) end.on('error', () => {})
      })
      relays.push(relay)
      await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
      const address = relay.address() as AddressInfo
      await inner.set(key, JSON.stringify({ host: '127.0.0.1', port: address.port }))
    },
    get: inner.get,
  }
  const group = await Promise.all(
    [0, 1, 2].map((rank) => connectTcp({ kind: 'ws', rank, size: 3, token: TOKEN, exchange })),
  )
  const data = group.map(() => new Float32Array(300_000).fill(1))
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  for (const sums of data) expect(sums.every((sum) => sum === 3)).toBe(true)
  await closeAll(group)
  for (const relay of relays) relay.close()
})
