/**
 * Links that are encrypted carry what others carry, and nothing of it can be read on the way.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { listen } from '../../src/collectives/transports/listen.js'
import type { Address, TransportKind } from '../../src/collectives/transports/mesh.js'
import type { Tls } from '../../src/collectives/wire/tls.js'
import { closeAll, errorsOf, TOKEN } from './groups.js'

/** In every four bytes of the gradients: none of it may be seen. */
const PATTERN = Buffer.from('DENSE BIAS GRADS')

const pem = (name: string) =>
  readFileSync(new URL(`../launcher/fixtures/tls/${name}`, import.meta.url), 'utf8')
const certificates = (node: string, ca = 'ca'): Tls => ({
  ca: pem(`${ca}.pem`),
  cert: pem(`${node}.pem`),
  key: pem(`${node}.key`),
})

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** Stands before a rank, and keeps all bytes that pass. */
async function spyOn(to: Address, seen: Buffer[]): Promise<Address> {
  const server = createServer((near) => {
    const far = connect(to)
    for (const [from, other] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk) => seen.push(chunk)).on('error', () => other.destroy())
      from.pipe(other)
    }
  }).listen(0, '127.0.0.1')
  servers.push(server)
  await once(server, 'listening')
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

/** Ranks 0 and 1 in this thread, at 127.0.0.1 and 127.0.0.2. */
async function join(
  kind: TransportKind,
  tls: readonly (Tls | undefined)[],
  via: (address: Address) => Address | Promise<Address> = (address) => address,
) {
  const meshes = await Promise.all(
    tls.map((tls, rank) =>
      listen(kind, { rank, size: 2, token: TOKEN, tls, host: `127.0.0.${rank + 1}`, timeoutMs: 3000 }),
    ),
  )
  const addresses = await Promise.all(meshes.map(({ address }) => via(address)))
  return meshes.map((mesh) => mesh.connect(addresses))
}

/** Each gives PATTERN, and gets the sum. */
async function sum(...where: Parameters<typeof join>): Promise<Float32Array[]> {
  const group = (await Promise.all(await join(...where))).map((transport) => inThread(transport))
  const arrays = group.map(() => gradients())
  await Promise.all(group.map((rank, r) => rank.allReduce(arrays[r]!, 'sum')))
  await closeAll(group)
  return arrays
}

const gradients = () => new Float32Array(new Uint8Array(Buffer.alloc(1 << 20, PATTERN)).buffer)

const bytesOf = (array: Float32Array) => Buffer.from(array.buffer)

describe.each(['tcp', 'ws'] as const)('%s', (kind) => {
  const expected = bytesOf(gradients().map((x) => x + x))

  test.each<[string, Tls | undefined, boolean]>([
    ['without TLS can be read', undefined, true],
    ['with the token cannot be', 'token', false],
  ])('%s on the way', async (_, tls, isReadable) => {
    const seen: Buffer[] = []
    const arrays = await sum(kind, [tls, tls], (address) => spyOn(address, seen))
    for (const array of arrays) expect(bytesOf(array).equals(expected)).toBe(true)
    const bytes = Buffer.concat(seen)
    expect(bytes.length).toBeGreaterThan(1 << 20)
    expect([bytes.includes(PATTERN), bytes.includes('LOCKSTEP')]).toEqual([isReadable, isReadable])
  })

  test('with certificates', async () => {
    const arrays = await sum(kind, [certificates('node1'), certificates('node2')])
    for (const array of arrays) expect(bytesOf(array).equals(expected)).toBe(true)
  })

  test.each<[string, Tls | undefined, Tls | undefined, RegExp]>([
    ['one side without TLS', 'token', undefined, /does not speak TLS: give all nodes the same --tls/],
    ['one side with certificates', 'token', certificates('node2'), /one end has certificates and the other/],
    [
      'another authority',
      certificates('node1'),
      certificates('other', 'other-ca'),
      /^rank 1 failed: rank 0 cannot connect to it at 127\.0\.0\.2:\d+ \(the other end's certificate is not of this end's authority/,
    ],
    [
      'an expired certificate',
      certificates('node1'),
      certificates('expired'),
      /^rank 1 failed: rank 0 cannot connect to it at 127\.0\.0\.2:\d+ \(the other end's certificate has expired/,
    ],
    [
      'a certificate of another host',
      certificates('node1'),
      certificates('node1'),
      /^rank 1 failed: rank 0 cannot connect to it at 127\.0\.0\.2:\d+ \(its certificate is for IP Address:127\.0\.0\.1, not for 127\.0\.0\.2: make one/,
    ],
  ])('%s is an error of one line', async (_, first, second, message) => {
    const messages = (await errorsOf(await join(kind, [first, second]))).map(({ message }) => message)
    expect(messages.join(' and ')).toMatch(message)
    for (const text of messages) expect(text).toMatch(/^[^\n]+$/)
  })
})
