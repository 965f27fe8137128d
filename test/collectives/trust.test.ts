/**
 * Ranks that disagree, leave or stay silent: every other rank is told which rank, in which call, and nobody hangs.
 */
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Communicator, Numbers, ReduceOp } from '../../src/collectives/communicator.js'
import { CollectiveError, PeerFailedError } from '../../src/collectives/failures.js'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { singleRank } from '../../src/collectives/single.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
import { LockstepError } from '../../src/errors.js'
import { closeAll, errorsOf, GROUPS } from './groups.js'

const floats = (count = 100) => new Float32Array(count)

type Call = (rank: Communicator) => Promise<unknown>

/** What most ranks call, what the deviating one calls, and how the error calls both. */
const DISAGREEMENTS: readonly [string, Call, Call, string, string][] = [
  [
    'another operation',
    (rank) => rank.allReduce(floats()),
    (rank) => rank.broadcast(floats()),
    'all_reduce(float32 × 100, sum)',
    'broadcast(float32 × 100, root 0)',
  ],
  [
    'another element count',
    (rank) => rank.allReduce(floats(100)),
    (rank) => rank.allReduce(floats(101)),
    'all_reduce(float32 × 100, sum)',
    'all_reduce(float32 × 101, sum)',
  ],
  [
    'a large array where others have none',
    (rank) => rank.allReduce(floats(1_000_000)),
    (rank) => rank.allReduce(floats(0)),
    'all_reduce(float32 × 1000000, sum)',
    'all_reduce(float32 × 0, sum)',
  ],
  [
    'another dtype',
    (rank) => rank.allGather(floats()),
    (rank) => rank.allGather(new Int32Array(100)),
    'all_gather(float32 × 100)',
    'all_gather(int32 × 100)',
  ],
  [
    'another reduction',
    (rank) => rank.reduceScatter(floats(120)),
    (rank) => rank.reduceScatter(floats(120), 'max'),
    'reduce_scatter(float32 × 120, sum)',
    'reduce_scatter(float32 × 120, max)',
  ],
  [
    'another root',
    (rank) => rank.broadcast(floats(), 0),
    (rank) => rank.broadcast(floats(), 1),
    'broadcast(float32 × 100, root 0)',
    'broadcast(float32 × 100, root 1)',
  ],
  [
    'the root of a gather',
    (rank) => rank.gather(floats(), 0),
    (rank) => rank.gather(floats(), 1),
    'gather(float32 × 100, root 0)',
    'gather(float32 × 100, root 1)',
  ],
  [
    'the root of a reduce',
    (rank) => rank.reduce(floats(), 'sum', 0),
    (rank) => rank.reduce(floats(), 'sum', 1),
    'reduce(float32 × 100, sum, root 0)',
    'reduce(float32 × 100, sum, root 1)',
  ],
  ['no barrier', (rank) => rank.barrier(), (rank) => rank.broadcast(floats()), 'barrier()', 'broadcast('],
]

describe.each(GROUPS)('$name', ({ name, connect }) => {
  async function connected(size: number, timeoutMs?: number): Promise<Communicator[]> {
    const group = await connect(size, timeoutMs)
    onTestFinished(() => closeAll(group).then(() => {}))
    return group
  }

  describe.each(name === 'memory' ? [2, 3, 4] : [3])('%i ranks that disagree', (size) => {
    test.each(name === 'memory' ? DISAGREEMENTS : DISAGREEMENTS.slice(0, 1))(
      'about %s',
      async (_, usual, other, usualText, otherText) => {
        for (let deviating = 0; deviating < (name === 'memory' ? size : 1); deviating++) {
          const group = await connected(size)
          await Promise.all(group.map((rank) => rank.allReduce(floats(3)))) // one that agrees, before
          const calls = group.map((rank) => (rank.rank === deviating ? other(rank) : usual(rank)))
          const outcomes = await Promise.allSettled(calls)
          // The group is broken for good, and says why. In a broadcast that is also how a rank is told that got its
          // data before the disagreement was met; in all others it is told at once.
          const later = await errorsOf(group.map((rank) => rank.barrier()))
          outcomes.forEach((outcome, rank) => {
            if (outcome.status === 'fulfilled') expect(usualText).toContain('root')
            else expect(later[rank]!.message).toBe(outcome.reason.message)
          })
          for (const error of later) {
            expect(error).toBeInstanceOf(CollectiveError)
            expect(error.message).toContain(`rank ${deviating} called ${otherText}`)
            expect(error.message).toContain(`called ${usualText}`)
            expect(error.message).toContain('as its operation 2')
            expect(error.message).not.toContain('\n')
          }
        }
      },
    )
  })

  test('the report of a failure lists the last operations', async () => {
    const group = await connected(2)
    for (let i = 0; i < 3; i++) await Promise.all(group.map((rank) => rank.barrier()))
    const [error] = await errorsOf(group.map((rank) => rank.allReduce(floats(rank.rank + 1))))
    const report = (error as CollectiveError).recentOperations
    expect(report).toHaveLength(4)
    expect(report[2]).toMatch(/^#3 barrier\(\) \d+\.\d ms$/)
    expect(report[3]).toMatch(/^#4 all_reduce\(float32 × 1, sum\) not ended after/)
  })

  test('a rank that does not come is named, with its last call', async () => {
    const group = await connected(4, 1000)
    await Promise.all(group.map((rank) => rank.barrier()))
    const waiting = group.filter((rank) => rank.rank !== 2)
    for (const error of await errorsOf(waiting.map((rank) => rank.allReduce(floats())))) {
      expect(error.message).toMatch(
        /all_reduce\(float32 × 100, sum\), operation 2 of rank \d, made no progress for 1 s: rank 2 has not called it \(its last is operation 1, barrier\(\)\); .*LOCKSTEP_TIMEOUT/,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, 50)) // it is told
    await expect(group[2]!.allReduce(floats())).rejects.toThrow('made no progress')
  })

  test('in a sub-group all are named by their ranks in the world', async () => {
    const group = await connected(4, 1000)
    const pair = [group[1]!.group([1, 3]), group[3]!.group([1, 3])]
    const [late] = await errorsOf([pair[0]!.broadcast(floats(), 1)])
    expect(late!.message).toMatch(
      /^broadcast\(float32 × 100, root 1\) in the group of ranks 1, 3, operation 1 of rank 1, made no .*: rank 3 has not called it \(it has called none yet\)/,
    )
    await expect(group[0]!.barrier()).rejects.toThrow(late!.message) // what ends one group ends all
  })

  test('a send and a recv of different lengths are told', async () => {
    const group = await connected(3)
    const [error] = await errorsOf([
      group[2]!.recv(floats(3), 0),
      group[0]!.send(floats(4), 2).then(() => group[0]!.barrier()),
    ])
    expect(error!.message).toContain(
      'rank 0 called send_recv(float32 × 4) as its operation 1 from rank 0 to rank 2, but rank 2 called send_recv(float32 × 3)',
    )
  })

  test('a rank that is late by less than the timeout is waited for', async () => {
    const group = await connected(2, 400)
    const data = group.map(() => Float32Array.of(1))
    const early = group[0]!.allReduce(data[0]!)
    await new Promise((resolve) => setTimeout(resolve, 200))
    await group[1]!.allReduce(data[1]!)
    await early
    expect(data[0]![0]).toBe(2)
  })

  test('a rank that has closed its world is named by those that still wait for it', async () => {
    const group = await connected(3)
    const waiting = group[1]!.allReduce(floats())
    await Promise.all([
      group[0]!.close(),
      expect(waiting).rejects.toThrow(/rank 0 closed its world while rank 1 was/),
    ])
    await expect(group[2]!.allReduce(floats())).rejects.toThrow(/rank 0 closed its world while rank/)
  })

  test('ranks may close one after the other', async () => {
    const group = await connected(3)
    await Promise.all(group.map((rank) => rank.barrier()))
    for (const rank of group) await rank.close()
    await expect(group[0]!.barrier()).rejects.toThrow('barrier was called after close()')
    await group[0]!.close()
  })

  test('close waits for what is in flight', async () => {
    const group = await connected(2)
    const data = group.map(() => new Float32Array(100_000).fill(1))
    const all = group.flatMap((rank, i) => [rank.allReduce(data[i]!), rank.close()])
    await Promise.all(all)
    expect(data[1]![99_999]).toBe(2)
  })
})

test('over TCP a rank that computes keeps sending and receiving', async () => {
  const { connect } = GROUPS.find(({ name }) => name === 'tcp')!
  const group = await connect(2)
  const data = group.map(() => new Float32Array(500_000).fill(1))
  let ended = 0
  const all = group.map((rank, i) => rank.allReduce(data[i]!).then(() => ended++))
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000) // this thread computes
  // It was all done meanwhile: only the news of it has to be read.
  for (let turn = 0; turn < 10 && ended < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(ended).toBe(2)
  await Promise.all(all)
  await closeAll(group)
})

describe('over TCP, where small operations run in one thread and large ones in another', () => {
  const large = () => new Float32Array(100_000)
  async function connected(timeoutMs?: number): Promise<Communicator[]> {
    const group = await GROUPS.find(({ name }) => name === 'tcp')!.connect(2, timeoutMs)
    onTestFinished(() => closeAll(group).then(() => {}))
    return group
  }

  test('they end in the order they were called', async () => {
    const group = await connected()
    const ended: string[] = []
    const calls = group.map(async (rank) => {
      const sums = [large(), floats(), floats(), large(), large(), floats()].map((data) => data.fill(1))
      await Promise.all(
        sums.map((data, i) => rank.allReduce(data).then(() => ended.push(`${rank.rank}: ${i}`))),
      )
      for (const data of sums) expect(data.every((value) => value === 2)).toBe(true)
    })
    await Promise.all(calls)
    for (const rank of ['0', '1']) {
      expect(ended.filter((end) => end.startsWith(rank))).toEqual(
        [0, 1, 2, 3, 4, 5].map((i) => `${rank}: ${i}`),
      )
    }
  })

  test('ranks that disagree about the size are told', async () => {
    const group = await connected()
    await Promise.all(group.map((rank) => rank.allReduce(large())))
    await Promise.all(group.map((rank) => rank.barrier()))
    const errors = await errorsOf([group[0]!.allReduce(floats()), group[1]!.allReduce(large())])
    const later = await errorsOf(group.map((rank) => rank.allReduce(large())))
    for (const [rank, error] of errors.entries()) {
      expect(error.message).toContain('rank 0 called all_reduce(float32 × 100, sum) as its operation 3')
      expect(error.message).toContain('rank 1 called all_reduce(float32 × 100000, sum) as its operation 3')
      expect(error.message).toBe(later[rank]!.message)
      const report = (error as CollectiveError).recentOperations
      expect(report[0]).toMatch(/^#1 all_reduce\(float32 × 100000, sum\) \d+\.\d ms$/)
      expect(report[1]).toMatch(/^#2 barrier\(\)/)
      expect(report[2]).toMatch(/^#3 all_reduce.* not ended/)
    }
  })

  test('a rank that computes still says where it is', async () => {
    const group = await connected(2000)
    await Promise.all(group.map((rank) => rank.allReduce(large())))
    await Promise.all(group.map((rank) => rank.barrier()))
    const waiting = errorsOf([group[0]!.allReduce(large())])
    await new Promise((resolve) => setTimeout(resolve, 100))
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3500) // both ranks' threads: only workers answer
    const [error] = await waiting
    expect(error!.message).toContain('rank 1 has not called it (its last is operation 2, barrier())')
  })
})

test('a rank whose links end is a PeerFailedError on all others, also when idle', async () => {
  for (const idle of [false, true]) {
    const transports = memoryTransports(4)
    const group = transports.map((transport) => inThread(transport))
    await Promise.all(group.map((rank) => rank.barrier()))
    const others = group.filter((rank) => rank.rank !== 1)
    const call = () => errorsOf(others.map((rank) => rank.allReduce(floats())))
    const started = idle ? undefined : call()
    transports[1]!.crash()
    await new Promise((resolve) => setTimeout(resolve, 20))
    const errors = await (started ?? call())
    for (const error of errors) {
      expect(error).toBeInstanceOf(PeerFailedError)
      expect(error).toMatchObject({ rank: 1, exitCode: 1, name: 'PeerFailedError' })
      expect(error.message).toMatch(/rank 1 failed: its link ended while rank \d was/)
    }
  }
})

describe('arguments are checked before anything is sent', () => {
  const bad: readonly [string, (rank: Communicator) => Promise<unknown>, RegExp][] = [
    [
      'reduction',
      (r) => r.allReduce(floats(), 'avg' as ReduceOp),
      /unknown reduction "avg": expected one of sum,/,
    ],
    ['mean of integers', (r) => r.allReduce(new Int32Array(2), 'mean'), /mean of int32 .* 'sum' and divide/],
    [
      'array',
      (r) => r.allReduce([1, 2] as unknown as Numbers),
      /allReduce was given Array: expected a Float32Array/,
    ],
    [
      'typed array',
      (r) => r.broadcast(new Int16Array(2) as unknown as Numbers),
      /given Int16Array: expected/,
    ],
    ['root', (r) => r.broadcast(floats(), 2), /broadcast from root 2: expected a rank from 0 to 1/],
    ['fractional root', (r) => r.broadcast(floats(), 0.5), /from root 0.5/],
    ['length', (r) => r.reduceScatter(floats(9)), /9 elements over 2 ranks: .* pad the array to 10/],
    ['shares', (r) => r.allToAll(floats(3)), /allToAll of 3 elements over 2 ranks: .* pad the array to 4/],
    ['reduce root', (r) => r.reduce(floats(), 'sum', 2), /reduce to root 2: expected a rank from 0 to 1/],
    ['gather root', (r) => r.gather(floats(), -1), /gather to root -1: expected/],
    [
      'counts',
      (r) => r.allGather(floats(3), [3]),
      /counts \[3\]: expected the lengths of the 2 ranks' parts/,
    ],
    [
      'own count',
      (r) => r.allGather(floats(3), [4, 3]),
      /3 elements and counts \[4,3\] by rank 0: expected 4/,
    ],
    [
      'no whole',
      (r) => r.scatter(floats(3)),
      /no whole array on its root, rank 0: expected float32 × 6, 2 parts/,
    ],
    ['whole', (r) => r.scatter(floats(3), 0, floats(7)), /given float32 × 7 on its root/],
    ['self', (r) => r.send(floats(), 0), /send to rank 0, by itself: expected another rank/],
    ['stranger', (r) => r.recv(floats(), 2), /recv from rank 2: expected a rank from 0 to 1/],
    ['duplicates', async (r) => r.group([0, 1, 0]), /group\(\[0,1,0\]\) names rank 0 twice/],
    ['member', async (r) => r.group([0, 2]), /group\(\[0,2\]\) names 2: expected ranks from 0 to 1/],
    [
      'without the caller',
      async (r) => r.group([1]),
      /group\(\[1\]\) was called by rank 0, which is not in it/,
    ],
  ]
  test.each(bad)('%s', async (_, call, message) => {
    const group = memoryTransports(2).map((transport) => inThread(transport))
    await expect(call(group[0]!)).rejects.toThrow(message)
    await expect(call(group[0]!)).rejects.toBeInstanceOf(LockstepError)
    await Promise.all(group.map((rank) => rank.barrier())) // the group is as good as before
    expect(group[0]!.bytesSent).toBe(0)
  })

  test('a world of one checks the same and moves nothing', async () => {
    const world = singleRank()
    const data = Float32Array.of(1, 2)
    await world.allReduce(data, 'mean')
    await world.broadcast(data)
    expect([...(await world.allGather(data)), ...(await world.reduceScatter(data))]).toEqual([1, 2, 1, 2])
    await expect(world.broadcast(data, 1)).rejects.toThrow('from root 1')
    await world.close()
    await expect(world.barrier()).rejects.toThrow('after close()')
    expect(world.bytesSent).toBe(0)
  })
})
