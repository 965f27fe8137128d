/**
 * Which transport ranks end up with: all the same one, and the reason said once.
 */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import type { Communicator } from '../../../src/collectives/communicator.js'
import { type ConnectOptions, connectRanks } from '../../../src/collectives/connect.js'
import { closeAll, errorsOf, mapExchange, TOKEN } from '../groups.js'

afterEach(() => {
  vi.restoreAllMocks()
})

function connect(options: Partial<ConnectOptions>, exchange = mapExchange()): Promise<Communicator>[] {
  return [0, 1].map((rank) =>
    connectRanks({ rank, size: 2, token: TOKEN, exchange, timeoutMs: 5000, ...options }),
  )
}

async function works(group: Communicator[]): Promise<void> {
  const data = group.map(() => Float32Array.of(1, 2))
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  expect([...data[1]!]).toEqual([2, 4])
  await closeAll(group)
}

test('ranks of one host share memory', async () => {
  const group = await Promise.all(connect({}))
  expect(group.map(({ share }) => typeof share)).toEqual(['function', 'function'])
  await works(group)
})

test('tcp, when told so', async () => {
  const group = await Promise.all(connect({ transport: 'tcp' }))
  expect(group.map(({ share }) => share)).toEqual([undefined, undefined])
  await works(group)
})

test('Unix sockets where memory cannot be shared, the reason said once, and nothing left of them', async () => {
  vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin')
  const onFallback = vi.fn()
  const exchange = mapExchange()
  const group = await Promise.all(connect({ onFallback }, exchange))
  const { host } = JSON.parse(await exchange.get('addr/0', 0))
  expect(host).toContain(join(tmpdir(), 'lockstep-'))
  expect(existsSync(dirname(host))).toBe(false)
  expect(onFallback.mock.calls).toEqual([
    [`rank 0: this is darwin on ${process.arch}, not Linux on x64 or arm64`],
  ])
  await works(group)
})

test('an error where shared memory was asked for', async () => {
  vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin')
  for (const error of await errorsOf(connect({ transport: 'shm' }))) {
    expect(error.message).toContain('not Linux')
  }
})
