/**
 * Arrays that all ranks see, here with all ranks in one process: what they hold, what is done in place, and what happens
 * where memory cannot be shared.
 */
import { describe, expect, test } from 'vitest'
import { bytesOf } from '../../../src/collectives/call.js'
import { REDUCE_OPS } from '../../../src/collectives/communicator.js'
import { Arena } from '../../../src/collectives/kernels/arena.js'
import { naiveAllReduce } from '../../../src/collectives/naive.js'
import type { SharedMemoryCommunicator } from '../../../src/collectives/shared-memory/communicator.js'
import { connectSharedMemory } from '../../../src/collectives/shared-memory/connect.js'
import { loadSystem, type System } from '../../../src/collectives/shared-memory/system.js'
import { LockstepError } from '../../../src/errors.js'
import { errorsOf, mapExchange } from '../groups.js'

const PAGE_FLOATS = 16_384
const waiting = { spins: 0, yields: 0, blocks: false }

function connected(size: number, options: object = {}, of: (rank: number) => object = () => ({})) {
  const exchange = mapExchange()
  return Promise.all(
    Array.from({ length: size }, (_, rank) =>
      connectSharedMemory({
        rank,
        size,
        exchange,
        waiting,
        timeoutMs: 3000,
        stageBytes: 65_536,
        ...options,
        ...of(rank),
      }),
    ),
  )
}

function arrays(size: number, floats: number): Float32Array[] {
  return Array.from({ length: size }, (_, rank) => {
    const data = new Arena(Arena.bytesForPages(floats) + 4096).allocPages(floats)
    fill(data, rank)
    return data
  })
}

function fill(data: Float32Array, rank: number): void {
  for (let i = 0; i < data.length; i++) data[i] = Math.sin(i + 100 * rank) + 0.5
}

const shareAll = (group: readonly SharedMemoryCommunicator[], data: readonly Float32Array[]) =>
  Promise.all(group.map((rank, i) => rank.share(data[i]!)))

describe.each([2, 3, 4, 5])('%i ranks', (size) => {
  test.each([
    ['in one memory', 2 ** 32],
    ['in several', size * 65_536],
  ])('every reduction in place, %s', async (_, windowBytes) => {
    const group = await connected(size, { windowBytes })
    const data = arrays(size, 3 * PAGE_FLOATS + 17)
    expect(await shareAll(group, data)).toEqual(data.map(() => undefined))
    for (const op of REDUCE_OPS) {
      data.forEach(fill)
      const expected = naiveAllReduce(data, op)
      await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!, op)))
      for (const [rank, sums] of data.entries()) {
        expect(Buffer.compare(bytesOf(sums), bytesOf(data[0]!))).toBe(0)
        const worst = sums.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[rank]![i]!)), 0)
        expect(worst).toBeLessThan(1e-5)
      }
    }
    await Promise.all(group.map((rank) => rank.close()))
  })
})

test.each([
  ['in one memory', 2 ** 32],
  ['in several', 5 * 65_536],
])('reduce-scatter and all-gather in place, %s: the bits of an all-reduce', async (_, windowBytes) => {
  for (const size of [2, 3, 5]) {
    const group = await connected(size, { windowBytes })
    const data = arrays(size, 30 * PAGE_FLOATS)
    await shareAll(group, data)
    const parts = data.map((array) => array.subarray(48, 48 + size * 20_000))
    await Promise.all(group.map((rank, i) => rank.allReduce(parts[i]!)))
    const expected = parts[0]!.slice()
    data.forEach(fill)
    const own = parts.map((part, rank) => part.subarray(rank * 20_000, (rank + 1) * 20_000))
    await Promise.all(group.map((rank, i) => rank.reduceScatter(parts[i]!, 'sum', own[i])))
    own.forEach((slice, rank) => {
      expect(
        Buffer.compare(bytesOf(slice), bytesOf(expected.slice(rank * 20_000, (rank + 1) * 20_000))),
      ).toBe(0)
    })
    await Promise.all(group.map((rank, i) => rank.allGather(own[i]!, undefined, parts[i])))
    for (const part of parts) expect(Buffer.compare(bytesOf(part), bytesOf(expected))).toBe(0)
    await Promise.all(group.map((rank) => rank.close()))
  }
})

test('an array keeps what it holds, and any part of it can be reduced', async () => {
  const group = await connected(2)
  const data = arrays(2, 2 * PAGE_FLOATS)
  const before = data.map((array) => array.slice())
  await shareAll(group, data)
  expect(data).toEqual(before)
  const [from, to] = [5001, 5001 + 9999]
  const expected = naiveAllReduce(
    before.map((array) => array.subarray(from, to)),
    'sum',
  )
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!.subarray(from, to))))
  for (const [i, array] of data.entries()) {
    expect(array.slice(from, to)).toEqual(expected[i])
    expect(array.slice(0, from)).toEqual(before[i]!.slice(0, from))
    expect(array.slice(to)).toEqual(before[i]!.slice(to))
  }
})

test('ranks whose numbers are at different places get the same sums', async () => {
  const group = await connected(2)
  const data = arrays(2, 2 * PAGE_FLOATS)
  await shareAll(group, data)
  const places: [Float32Array, Float32Array][] = [
    [data[0]!.subarray(0, 9000), data[1]!.slice(0, 9000)], // one shared, one private
    [data[0]!.subarray(0, 9000), data[1]!.subarray(100, 9100)],
    [data[0]!.slice(0, 9000), data[1]!.slice(0, 9000)],
  ]
  for (const pair of places) {
    pair.forEach(fill)
    const expected = naiveAllReduce(pair, 'sum')
    await Promise.all(group.map((rank, i) => rank.allReduce(pair[i]!)))
    expect(pair).toEqual(expected)
  }
})

test('ranks that share arrays of different lengths are told so', async () => {
  const group = await connected(2)
  const data = [arrays(1, 100)[0]!, arrays(1, 200)[0]!]
  for (const error of await errorsOf(group.map((rank, i) => rank.share(data[i]!)))) {
    expect(error.message).toContain('rank 0 called share(float32 × 100) as its operation 1')
    expect(error.message).toContain('rank 1 called share(float32 × 200) as its operation 1')
  }
})

test.each([
  ['an array of no arena', () => new Float32Array(10)],
  ['one that has no pages of its own', () => new Arena(2 ** 20).alloc(10)],
])('%s', async (what, make) => {
  const group = await connected(2)
  const data = what.includes('pages') ? make().subarray(1) : make()
  for (const error of await errorsOf(group.map((rank) => rank.share(data)))) {
    expect(error).toBeInstanceOf(LockstepError)
    expect(error.message).toMatch(/not on pages of their own: allocate them with Arena\.allocPages/)
  }
  await Promise.all(group.map((rank) => rank.barrier())) // nothing was sent
})

/** The real system calls, but one of them fails at its n-th call. */
function failing(call: 'createFile' | 'map' | 'watch', at: number): () => Promise<System> {
  let calls = 0
  return async () => {
    const system = await loadSystem()
    const real = system[call] as (...args: unknown[]) => unknown
    const wrapped = (...args: unknown[]) => {
      if (++calls === at) throw new Error(`${call} failed: ENOMEM`)
      return real(...args)
    }
    return { ...system, [call]: wrapped }
  }
}

describe('where memory cannot be shared', () => {
  test.each([
    ['createFile', 0],
    ['map', 0],
    ['map', 1],
    ['watch', 2],
  ] as const)('all ranks learn the reason: %s on rank %i', async (call, unable) => {
    const exchange = mapExchange()
    const errors = await errorsOf(
      [0, 1, 2].map((rank) =>
        connectSharedMemory({
          rank,
          size: 3,
          exchange,
          waiting,
          ...(rank === unable && { load: failing(call, 1) }),
        }),
      ),
    )
    for (const error of errors) {
      expect(error).toMatchObject({
        name: 'SharedMemoryUnavailable',
        message: `rank ${unable}: ${call} failed: ENOMEM`,
      })
    }
  })

  test.each([
    ['rank 0 gets no memory', 0, 'createFile', 2],
    ['rank 1 cannot map the windows', 1, 'map', 2],
    ['rank 1 cannot map its own pages', 1, 'map', 3],
  ] as const)('an array stays private on all ranks: %s', async (_, unable, call, at) => {
    const of = (rank: number) => (rank === unable ? { load: failing(call, at) } : {})
    const group = await connected(2, {}, of)
    const data = arrays(2, PAGE_FLOATS + 5)
    const before = data.map((array) => array.slice())
    expect(await shareAll(group, data)).toEqual(data.map(() => `rank ${unable}: ${call} failed: ENOMEM`))
    expect(data).toEqual(before)
    const expected = naiveAllReduce(before, 'sum')
    await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
    expect(data).toEqual(expected)
  })

  test('ranks that see other memory than their peers', async () => {
    const exchange = mapExchange()
    const blind = async () => ({ ...(await loadSystem()), map: () => {} })
    const errors = await errorsOf(
      [0, 1].map((rank) =>
        connectSharedMemory({ rank, size: 2, exchange, waiting, ...(rank === 1 && { load: blind }) }),
      ),
    )
    for (const error of errors) {
      expect(error.message).toBe('rank 1: what rank 0 has shared is not what is mapped')
    }
  })

  test('a rank that does not come is named', async () => {
    const connecting = connectSharedMemory({ rank: 0, size: 2, exchange: mapExchange(), timeoutMs: 100 })
    await expect(connecting).rejects.toThrow('rank 0 waits for rank 1, which has not said its process')
  })
})
