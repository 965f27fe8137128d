/**
 * The conformance suite's second half: the operations with a root, unequal parts, pairs of ranks, and sub-groups, on
 * every transport that has channels.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { allocate, DTYPES } from '../../src/collectives/call.js'
import type { Communicator, Numbers } from '../../src/collectives/communicator.js'
import {
  naiveAllGather,
  naiveAllReduce,
  naiveAllToAll,
  naiveReduceToRoot,
  naiveScatter,
} from '../../src/collectives/naive.js'
import { connectTcp } from '../../src/collectives/tcp-communicator.js'
import { closeAll, GROUPS, mapExchange, SIZES, TOKEN } from './groups.js'
import { COUNTS, expectClose, expectSameBits, numbers, REDUCTIONS } from './numbers.js'

/** What WebSocket and several hosts share with TCP is tested there; all of them: npm run test:slow. */
const KINDS = GROUPS.filter(({ name }) => process.env.SLOW || !['ws', 'hierarchical'].includes(name))

describe.each(KINDS)('$name', ({ name, connect }) => {
  describe.each(SIZES)('%i ranks', (size) => {
    let group: Communicator[]
    const all = <T>(call: (rank: Communicator, index: number) => Promise<T>) =>
      Promise.all(group.map((rank) => call(rank, rank.rank)))
    const roots = Array.from({ length: size }, (_, rank) => rank)

    beforeAll(async () => {
      group = await connect(size)
    })
    afterAll(() => closeAll(group))

    test.each(COUNTS)('reduce of %i elements, to every root', async (count) => {
      for (const [dtype, op] of REDUCTIONS) {
        const root = (count + op.length) % size
        const inputs = roots.map((rank) => numbers(dtype, count, rank))
        const run = async () => {
          const data = inputs.map((input) => input.slice())
          await all((rank, i) => rank.reduce(data[i]!, op, root))
          return data
        }
        const [first, second] = [await run(), await run()]
        expectClose(first, naiveReduceToRoot(inputs, op, root), dtype)
        first.forEach((data, rank) => {
          expectSameBits(data, rank === root ? second[rank]! : inputs[rank]!)
        })
      }
    })

    test.each(COUNTS)('gather and scatter of %i elements a rank, on every root', async (count) => {
      for (const dtype of DTYPES) {
        for (const root of roots) {
          const parts = roots.map((rank) => numbers(dtype, count, rank))
          const gathered = await all((rank, i) => rank.gather(parts[i]!, root))
          gathered.forEach((result, rank) => {
            if (rank === root) expectSameBits(result!, naiveAllGather(parts)[root]!)
            else expect(result).toBeUndefined()
          })
          const whole = numbers(dtype, count * size, 9)
          const scattered = parts.map((part) => allocate(dtype, part.length))
          await all((rank, i) => rank.scatter(scattered[i]!, root, i === root ? whole : undefined))
          naiveScatter(whole, size).forEach((part, rank) => {
            expectSameBits(scattered[rank]!, part)
          })
        }
      }
    })

    test.each(COUNTS)('all-to-all of %i elements for each rank', async (count) => {
      for (const dtype of DTYPES) {
        const inputs = roots.map((rank) => numbers(dtype, count * size, rank))
        const before = inputs.map((input) => input.slice())
        const results = await all((rank, i) => rank.allToAll(inputs[i]!))
        naiveAllToAll(inputs).forEach((expected, rank) => {
          expectSameBits(results[rank]!, expected)
          expectSameBits(inputs[rank]!, before[rank]!)
        })
      }
    })

    test('all-gather of unequal parts', async () => {
      for (const counts of [
        roots.map((rank) => rank),
        roots.map((rank) => (rank === 0 ? 70_001 : 3)),
        roots.map(() => 0),
      ]) {
        for (const dtype of DTYPES) {
          const parts = counts.map((count, rank) => numbers(dtype, count, rank))
          const results = await all((rank, i) => rank.allGather(parts[i]!, counts))
          const expected = naiveAllGather(parts)[0]!
          for (const result of results) expectSameBits(result, expected)
        }
      }
    })

    test.each([...COUNTS, 700_001])('%i elements around a ring of send and recv', async (count) => {
      if (size === 1) return
      for (const dtype of DTYPES) {
        const sent = roots.map((rank) => numbers(dtype, count, rank))
        const received = sent.map((data) => allocate(dtype, data.length))
        await all(async (rank, i) => {
          await Promise.all([
            rank.send(sent[i]!, (i + 1) % size),
            rank.recv(received[i]!, (i + size - 1) % size),
          ])
        })
        received.forEach((data, rank) => {
          expectSameBits(data, sent[(rank + size - 1) % size]!)
        })
      }
    })

    test.runIf(name !== 'memory')('arrays larger than a window, and than a piece', () => largeArrays(group))
  })

  describe('sub-groups of 4 ranks', () => {
    let group: Communicator[]
    beforeAll(async () => {
      group = await connect(4)
    })
    afterAll(() => closeAll(group))

    test('have ranks, sizes and byte counts of their own', async () => {
      const before = group[3]!.bytesSent
      const pair = [group[3]!.group([3, 1]), group[1]!.group([3, 1])]
      expect(pair.map(({ rank, size }) => [rank, size])).toEqual([
        [0, 2],
        [1, 2],
      ])
      const data = pair.map((_, rank) => Float32Array.of(rank + 1, 0))
      await Promise.all(pair.map((rank, i) => rank.allReduce(data[i]!)))
      expect(data.map(([sum]) => sum)).toEqual([3, 3])
      expect(pair[0]!.bytesSent).toBeGreaterThan(0)
      expect(group[3]!.bytesSent - before).toBe(pair[0]!.bytesSent)
      const gathered = await Promise.all(pair.map((rank, i) => rank.gather(Int32Array.of(i), 1)))
      expect(gathered).toEqual([undefined, Int32Array.of(0, 1)])
    })

    test('of one rank, and of all in another order', async () => {
      const alone = group[2]!.group([2])
      const data = Float32Array.of(5)
      await alone.allReduce(data, 'mean')
      expect([alone.rank, alone.size, data[0]]).toEqual([0, 1, 5])
      const order = [2, 0, 3, 1]
      const turned = group.map((rank) => rank.group(order))
      const results = await Promise.all(turned.map((rank, i) => rank.allGather(Int32Array.of(i))))
      for (const result of results) expect([...result]).toEqual(order)
    })

    test('a grid of rows and columns, all at once and in another order on every rank', async () => {
      const world = group.map((rank) => rank)
      const rows = world.map((rank) => rank.group(rank.rank < 2 ? [0, 1] : [2, 3]))
      const columns = world.map((rank) => rank.group([rank.rank % 2, (rank.rank % 2) + 2]))
      const again = rows.map((row) => row.group([0, 1])) // a group of a group, of all its ranks
      const run = async (rank: number) => {
        const one = () => new Float32Array(200_000).fill(10 ** rank)
        const [row, column, deep, whole] = [one(), one(), one(), one()]
        const calls = [
          () => rows[rank]!.allReduce(row),
          () => columns[rank]!.allReduce(column),
          () => again[rank]!.allReduce(deep),
          () => world[rank]!.allReduce(whole),
        ]
        const turned = [...calls.slice(rank), ...calls.slice(0, rank)]
        await Promise.all(turned.map((call) => call()))
        return [row, column, deep, whole].map((data) => data[199_999])
      }
      expect(await Promise.all(group.map((_, rank) => run(rank)))).toEqual([
        [11, 101, 11, 1111],
        [11, 1010, 11, 1111],
        [1100, 101, 1100, 1111],
        [1100, 1010, 1100, 1111],
      ])
    })

    test('a receiver that is late in one stream holds up no other', async () => {
      const pairs = [group[0]!.group([0, 1]), group[1]!.group([0, 1])]
      const big = new Float32Array(3_000_000).fill(1) // 12 MB: far more than a window
      const bulk = pairs[0]!.send(big, 1)
      const got = new Float32Array(1)
      await Promise.all([group[0]!.send(Float32Array.of(7), 1), group[1]!.recv(got, 0)])
      await Promise.all(group.map((rank) => rank.barrier()))
      expect(got[0]).toBe(7)
      const copy = new Float32Array(3_000_000)
      await Promise.all([bulk, pairs[1]!.recv(copy, 0)])
      expect(copy.every((value) => value === 1)).toBe(true)
    })

    test('what is sent arrives in order, and waits for no collective', async () => {
      const got = Array.from({ length: 50 }, () => new Int32Array(1))
      const waiting = group.slice(0, 3).map((rank) => rank.barrier())
      await Promise.all([
        ...got.map((_, i) => group[2]!.send(Int32Array.of(i), 3)),
        ...got.map((data) => group[3]!.recv(data, 2)),
      ])
      expect(got.map(([value]) => value)).toEqual(got.map((_, i) => i))
      await Promise.all([...waiting, group[3]!.barrier()])
    })

    test('may be closed, while others go on', async () => {
      const pair = [group[0]!.group([0, 1]), group[1]!.group([0, 1])]
      await Promise.all(pair.map((rank) => rank.barrier()))
      await closeAll(pair)
      await expect(pair[0]!.barrier()).rejects.toThrow('barrier was called after close()')
      await Promise.all(group.map((rank) => rank.barrier()))
    })
  })
})

test('large arrays through staging memory, as where koffi is missing', async () => {
  const exchange = mapExchange()
  const group = await Promise.all(
    [0, 1, 2].map((rank) => connectTcp({ rank, size: 3, token: TOKEN, exchange, staged: true })),
  )
  await largeArrays(group)
  await closeAll(group)
})

test('one rank without koffi: all cut large arrays alike', async () => {
  const exchange = mapExchange()
  const group = await Promise.all(
    [0, 1].map((rank) => connectTcp({ rank, size: 2, token: TOKEN, exchange, staged: rank === 1 })),
  )
  const data = group.map(({ rank }) => new Float32Array(2_200_000).fill(rank + 1)) // more than a piece
  await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!)))
  for (const sums of data) expect(sums.findIndex((sum) => sum !== 3)).toBe(-1)
  await closeAll(group)
})

/** 2.5 million floats: more than a piece (8 MiB), many blocks, several windows. */
async function largeArrays(group: readonly Communicator[]): Promise<void> {
  const size = group.length
  const roots = group.map(({ rank }) => rank)
  const all = <T>(call: (rank: Communicator, index: number) => Promise<T>) =>
    Promise.all(group.map((rank) => call(rank, rank.rank)))

  const count = 2_500_008 // a multiple of 2, 3 and 4
  const inputs = roots.map((rank) => numbers('float32', count, rank))
  const sums = inputs.map((input) => input.slice())
  const copies = inputs.map((input) => input.slice())
  const [, , slices, transposed] = await Promise.all([
    all((rank, i) => rank.allReduce(sums[i]!)),
    all((rank, i) => rank.broadcast(copies[i]!, size - 1)),
    all((rank, i) => rank.reduceScatter(inputs[i]!)),
    all((rank, i) => rank.allToAll(inputs[i]!)),
  ])
  expectClose(sums, naiveAllReduce(inputs, 'sum'), 'float32')
  for (const other of sums) expectSameBits(other, sums[0]!)
  for (const copy of copies) expectSameBits(copy, inputs[size - 1]!)
  expectClose(slices, naiveScatter(naiveAllReduce(inputs, 'sum')[0]!, size), 'float32')
  const reduced = inputs.map((input) => input.slice())
  const parts = slices.map((slice) => slice.slice())
  await all((rank, i) => rank.reduce(reduced[i]!, 'sum', size - 1))
  await all((rank, i) => rank.scatter(parts[i]!, size - 1, i === size - 1 ? reduced[i]! : undefined))
  expectClose([...parts, reduced[size - 1]!], [...slices, sums[0]!], 'float32')
  expectSameBits((await all((rank, i) => rank.gather(parts[i]!)))[0]!, reduced[size - 1]!)
  const gathered = await all((rank, i) => rank.allGather(transposed[i]!.subarray(0, count / size)))
  expectSameBits(
    gathered[0]!,
    naiveAllGather(transposed.map((data) => data.subarray(0, count / size)) as Numbers[])[0]!,
  )
  const counts = roots.map((rank) => count - rank * 50_000)
  const uneven = await all((rank, i) => rank.allGather(inputs[i]!.subarray(0, counts[i]!), counts))
  let at = 0
  for (const rank of roots) {
    expectSameBits(
      uneven[size - 1]!.subarray(at, at + counts[rank]!),
      inputs[rank]!.subarray(0, counts[rank]!),
    )
    at += counts[rank]!
  }
}
