/**
 * Ranks that are told to be on several hosts, here all in one process: what goes over the network, arrays that a host
 * shares, and how failures on one side reach the other. (The conformance suite has a row for their results.)
 */
import { expect, test } from 'vitest'
import { REDUCE_OPS } from '../../src/collectives/communicator.js'
import { connectRanks } from '../../src/collectives/connect.js'
import { columnOf, slicesOf, topologyOf } from '../../src/collectives/hierarchical-topology.js'
import { Arena } from '../../src/collectives/kernels/arena.js'
import { naiveAllReduce } from '../../src/collectives/naive.js'
import { loadSystem } from '../../src/collectives/shared-memory/system.js'
import { LockstepError } from '../../src/errors.js'
import { closeAll, errorsOf, mapExchange, onHosts, TOKEN } from './groups.js'
import { expectClose, expectSameBits, numbers } from './numbers.js'

const FLOATS = 100_003

function arrays(size: number, floats = FLOATS): Float32Array[] {
  return Array.from({ length: size }, (_, rank) => numbers('float32', floats, rank) as Float32Array)
}

test('each slice has one owner a host, as many as the smallest host has ranks', () => {
  const names = ['a', 'b', 'a', 'b', 'b']
  const topologies = names.map((_, rank) => topologyOf(names, rank))
  expect(topologies[4]).toEqual({
    hosts: [
      [0, 2],
      [1, 3, 4],
    ],
    host: [1, 3, 4],
    place: 2,
    slices: 2,
  })
  expect(topologies.map(columnOf)).toEqual([[0, 1], [0, 1], [2, 3], [2, 3], undefined])
  expect(slicesOf(1000, topologies[0]!)).toEqual([
    { start: 0, end: 512 },
    { start: 512, end: 1000 },
  ])
  expect(slicesOf(1000, topologies[4]!)[2]).toEqual({ start: 1000, end: 1000 })
})

test.each([
  { names: ['a', 'a', 'b', 'b'], what: 'two hosts of two', perHost: 1 },
  { names: ['a', 'b', 'c'], what: 'three hosts of one', perHost: 4 / 3 },
  { names: ['a', 'a', 'b', 'b', 'b'], what: 'two and three', perHost: 1 },
  { names: ['a', 'b', 'b', 'b'], what: 'one and three', perHost: 1 },
])('$what: a host sends $perHost times the array, as with one rank', async ({ names, perHost }) => {
  const group = await onHosts(names)
  const data = arrays(names.length)
  const expected = naiveAllReduce(data, 'sum')
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  expectClose(data, expected, 'float32')
  for (const other of data) expectSameBits(other, data[0]!)
  for (const name of new Set(names)) {
    const sent = group.reduce((sum, rank, i) => sum + (names[i] === name ? rank.bytesSent : 0), 0)
    expect(Math.abs(sent - FLOATS * 4 * perHost)).toBeLessThanOrEqual(8) // chunks of whole elements
  }
  await closeAll(group)
})

test.each([
  ['of two hosts of two', ['a', 'a', 'b', 'b'], 2 ** 32],
  ['of two and three', ['a', 'a', 'b', 'b', 'b'], 2 ** 32],
  ['in several memories', ['a', 'a', 'b', 'b'], 2 * 65_536],
])('shared arrays are reduced in place: %s', async (_, names, windowBytes) => {
  const sharing = { waiting: { spins: 0, yields: 0, blocks: false }, stageBytes: 65_536, windowBytes }
  const group = await onHosts(names, { sharing })
  const data = names.map(() => new Arena(Arena.bytesForPages(FLOATS) + 4096).allocPages(FLOATS))
  expect(await Promise.all(group.map((rank, i) => rank.share!(data[i]!)))).toEqual(names.map(() => undefined))
  for (const op of REDUCE_OPS) {
    const inputs = arrays(names.length)
    data.forEach((array, rank) => {
      array.set(inputs[rank]!)
    })
    await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!, op)))
    expectClose(data, naiveAllReduce(inputs, op), 'float32')
    for (const other of data) expectSameBits(other, data[0]!)
  }
  // Buckets of it, several in flight, one of them with a private array on one rank.
  const inputs = arrays(names.length)
  data.forEach((array, rank) => {
    array.set(inputs[rank]!)
  })
  const buckets = [0, 30_000, 60_000, 90_000, FLOATS]
  const parts = data.map((array, rank) =>
    buckets.slice(1).map((end, i) => {
      const part = array.subarray(buckets[i]!, end)
      return rank === 1 && i === 2 ? part.slice() : part
    }),
  )
  await Promise.all(group.flatMap((rank, i) => parts[i]!.map((part) => rank.allReduce(part))))
  const expected = naiveAllReduce(inputs, 'sum')
  for (const [rank, each] of parts.entries()) {
    const whole = Float32Array.from(each.flatMap((part) => [...part]))
    expectClose([whole], [expected[rank]!], 'float32')
  }
  await closeAll(group)
})

test('within a host, groups and pairs use its memory', async () => {
  const group = await onHosts(['a', 'a', 'b', 'b'])
  const world = group[0]!.bytesSent
  const pair = [group[2]!.group([2, 3]), group[3]!.group([2, 3])]
  const data = arrays(2)
  await Promise.all(pair.map((rank, i) => rank.allReduce(data[i]!)))
  await Promise.all([group[2]!.send(data[0]!, 3), group[3]!.recv(data[1]!, 2)])
  expect(group[0]!.bytesSent).toBe(world)
  expect(group[2]!.bytesSent).toBeGreaterThan(pair[0]!.bytesSent)
  await closeAll(group)
})

test('ranks that disagree learn of it at once, and which calls they were', async () => {
  const group = await onHosts(['a', 'a', 'b', 'b'])
  const errors = await errorsOf(
    group.map((rank, i) =>
      i === 1 ? rank.broadcast(new Float32Array(FLOATS)) : rank.allReduce(arrays(4)[i]!),
    ),
  )
  for (const error of errors) {
    expect(error).toBeInstanceOf(LockstepError)
    expect(error.message).toContain(`rank 1 called broadcast(float32 × ${FLOATS}, root 0) as its operation 1`)
    expect(error.message).toMatch(/rank [023] called hierarchical_all_reduce\(float32 × 100003, sum\)/)
  }
  await expect(group[0]!.barrier()).rejects.toThrow('rank 1 called broadcast') // it stays broken
  await closeAll(group)
})

test('a rank that does not come is named on all hosts, by its rank in the job', async () => {
  const group = await onHosts(['a', 'a', 'b', 'b'], { timeoutMs: 5000 })
  const calls = [0, 1, 2].map((rank) => group[rank]!.allReduce(arrays(4)[rank]!))
  for (const error of await errorsOf(calls)) {
    expect(error.message).toMatch(/made no progress for 5 s: rank 3 has not called it/)
  }
  await expect(group[3]!.allReduce(arrays(4)[3]!)).rejects.toThrow('rank 3 has not called it')
  await closeAll(group)
})

test('a failure inside a host ends the job on all hosts', async () => {
  const group = await onHosts(['a', 'a', 'b', 'b'])
  const pair = [group[3]!.group([3, 2]), group[2]!.group([3, 2])]
  const errors = await errorsOf([pair[0]!.barrier(), pair[1]!.broadcast(new Float32Array(1))])
  for (const error of errors) {
    expect(error.message).toContain('rank 3 called barrier() as its operation 1 in the group of ranks 3, 2')
    expect(error.message).toContain('rank 2 called broadcast(float32 × 1, root 0)')
  }
  const later = group.map((rank) => rank.allReduce(arrays(1)[0]!))
  for (const error of await errorsOf(later)) expect(error.message).toContain('rank 3 called barrier()')
  await closeAll(group)
})

test('where one host cannot share memory, all ranks use the network, and rank 0 says why', async () => {
  const said: string[] = []
  const sharing = {
    load: async () => ({
      ...(await loadSystem()),
      createFile: () => {
        throw new Error('no memory')
      },
    }),
  }
  const group = await onHosts(['a', 'a', 'b', 'b'], { onFallback: (reason) => said.push(reason) }, (rank) =>
    rank === 2 ? { sharing } : {},
  )
  expect(said).toEqual(['rank 2: no memory'])
  expect(group.map((rank) => rank.share)).toEqual([undefined, undefined, undefined, undefined])
  const data = arrays(4)
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  for (const other of data) expectSameBits(other, data[0]!)
  await closeAll(group)
})

test.each([
  { nodes: [0, 0, 1, 1], expected: 'HierarchicalCommunicator' },
  { nodes: [0, 1], expected: 'CheckedCommunicator' },
])('ranks on nodes $nodes connect as a $expected by themselves', async ({ nodes, expected }) => {
  const exchange = mapExchange()
  const group = await Promise.all(
    nodes.map((node, rank) => connectRanks({ rank, size: nodes.length, node, token: TOKEN, exchange })),
  )
  expect(group.map((rank) => rank.constructor.name)).toEqual(nodes.map(() => expected))
  await closeAll(group)
})
