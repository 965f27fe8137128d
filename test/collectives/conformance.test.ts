/**
 * One suite for every transport: each collective × world sizes × awkward element counts × dtypes × reductions,
 * against the naive oracle, bit-identical on all ranks and in a second run.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { allocate, DTYPES } from '../../src/collectives/call.js'
import type { Communicator, Numbers } from '../../src/collectives/communicator.js'
import { addHalf, toHalf } from '../../src/collectives/kernels/half.js'
import type { HalfArray } from '../../src/collectives/kernels/half-arrays.js'
import {
  naiveAllGather,
  naiveAllReduce,
  naiveBroadcast,
  naiveReduceScatter,
} from '../../src/collectives/naive.js'
import { closeAll, GROUPS, SIZES } from './groups.js'
import { COUNTS, expectClose, expectSameBits, numbers, REDUCTIONS } from './numbers.js'

describe.each(GROUPS)('$name', ({ connect }) => {
  describe.each(SIZES)('%i ranks', (size) => {
    let group: Communicator[]
    beforeAll(async () => {
      group = await connect(size)
    })
    afterAll(() => closeAll(group))

    test.each(COUNTS)('all-reduce of %i elements', async (count) => {
      for (const [dtype, op] of REDUCTIONS) {
        const inputs = group.map((_, rank) => numbers(dtype, count, rank))
        const run = async () => {
          const data = inputs.map((input) => input.slice())
          await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!, op)))
          return data
        }
        const [first, second] = [await run(), await run()]
        expectClose(first, naiveAllReduce(inputs, op), dtype)
        for (const other of [...first, ...second]) expectSameBits(other, first[0]!)
      }
    })

    test.each(COUNTS)(
      'reduce-scatter of %i elements, rounded up to a multiple of the ranks',
      async (count) => {
        const whole = Math.ceil(count / size) * size
        for (const [dtype, op] of REDUCTIONS) {
          const inputs = group.map((_, rank) => numbers(dtype, whole, rank))
          const before = inputs.map((input) => input.slice())
          const run = () => Promise.all(group.map((rank, i) => rank.reduceScatter(inputs[i]!, op)))
          const [first, second] = [await run(), await run()]
          expectClose(first, naiveReduceScatter(inputs, op), dtype)
          first.forEach((slice, rank) => {
            expectSameBits(slice, second[rank]!)
            expectSameBits(inputs[rank]!, before[rank]!) // the caller's array is only read
          })
        }
      },
    )

    test.each(COUNTS)('all-gather of %i elements a rank', async (count) => {
      for (const dtype of DTYPES) {
        const parts = group.map((_, rank) => numbers(dtype, count, rank))
        const results = await Promise.all(group.map((rank, i) => rank.allGather(parts[i]!)))
        const expected = naiveAllGather(parts)
        results.forEach((result, rank) => {
          expectSameBits(result, expected[rank]!)
        })
      }
    })

    test('reduce-scatter and all-gather in place: an all-reduce', async () => {
      for (const count of [1, 5000, 30_000]) {
        const data = group.map((_, rank) => numbers('float32', size * count, rank))
        const expected = naiveAllReduce(data, 'sum')
        const own = data.map((array, rank) => array.subarray(rank * count, (rank + 1) * count))
        const slices = await Promise.all(group.map((rank, i) => rank.reduceScatter(data[i]!, 'sum', own[i]!)))
        slices.forEach((slice, i) => {
          expect(slice).toBe(own[i])
        })
        const all = await Promise.all(group.map((rank, i) => rank.allGather(own[i]!, undefined, data[i]!)))
        expectClose(all, expected, 'float32')
        for (const [i, array] of all.entries()) {
          expect(array).toBe(data[i])
          expectSameBits(array, all[0]!)
        }
      }
    })

    test.each(['float16', 'bfloat16'] as const)(
      'reduce-scatter of %s: added in float32 in rank order, rounded once, also in place',
      async (dtype) => {
        for (const count of [1, 5000, 140_000]) {
          const data = group.map((_, rank) => {
            const half = allocate(dtype, size * count) as HalfArray
            toHalf(half, numbers('float32', half.length, rank) as Float32Array)
            return half
          })
          const sum = new Float32Array(size * count)
          for (const half of data) addHalf(sum, half)
          const expected = allocate(dtype, sum.length) as HalfArray
          toHalf(expected, sum)
          const own = data.map((array, rank) => array.subarray(rank * count, (rank + 1) * count))
          for (const into of [undefined, own]) {
            const slices = await Promise.all(
              group.map((rank, i) => rank.reduceScatter(data[i]!, 'sum', into?.[i])),
            )
            slices.forEach((slice, rank) => {
              expectSameBits(slice, expected.subarray(rank * count, (rank + 1) * count))
            })
          }
        }
      },
    )

    test.each(COUNTS)('broadcast of %i elements, from every root', async (count) => {
      for (const dtype of DTYPES) {
        for (let root = 0; root < size; root++) {
          const data = group.map((_, rank) => numbers(dtype, count, rank))
          const expected = naiveBroadcast(data.map((input) => input.slice()) as Numbers[], root)
          await Promise.all(group.map((rank, i) => rank.broadcast(data[i]!, root)))
          data.forEach((result, rank) => {
            expectSameBits(result, expected[rank]!)
          })
        }
      }
    })

    test('all-reduce of a view into a WebAssembly.Memory, of many blocks a chunk', async () => {
      const count = 300_001
      const data = group.map((_, rank) => {
        const { buffer } = new WebAssembly.Memory({ initial: 20, maximum: 20 })
        const view = new Float32Array(buffer, 64, count)
        view.set(numbers('float32', count, rank))
        return view
      })
      const expected = naiveAllReduce(data, 'mean')
      await Promise.all(group.map((rank, i) => rank.allReduce(data[i]!, 'mean')))
      expectClose(data, expected, 'float32')
      for (const other of data) expectSameBits(other, data[0]!)
    })

    test('several operations in flight at once do not mix', async () => {
      const all = group.map(async (rank) => {
        const sums = [5, 70_000, 0, 1234].map((count) => new Float32Array(count).fill(rank.rank + 1))
        const root = Int32Array.of(rank.rank)
        const [gathered] = await Promise.all([
          rank.allGather(Uint8Array.of(rank.rank, 9)),
          ...sums.map((data) => rank.allReduce(data)),
          rank.barrier(),
          rank.broadcast(root, size - 1),
        ])
        return { sums, root, gathered }
      })
      const total = (size * (size + 1)) / 2
      for (const { sums, root, gathered } of await Promise.all(all)) {
        for (const data of sums) expect(data.every((value) => value === total)).toBe(true)
        expect([...root]).toEqual([size - 1])
        expect([...gathered]).toEqual(group.flatMap((_, rank) => [rank, 9]))
      }
    })

    test('as many bytes count for operations in flight at once as for one after the other', async () => {
      const bytes = async (body: (rank: (typeof group)[number]) => Promise<unknown>) => {
        const before = group.map(({ bytesSent }) => bytesSent)
        await Promise.all(group.map(body))
        return group.map(({ bytesSent }, i) => bytesSent - before[i]!)
      }
      const arrays = () => [0, 1, 2].map(() => new Float32Array(100_000))
      const atOnce = await bytes((rank) => Promise.all(arrays().map((data) => rank.allReduce(data))))
      const inTurn = await bytes(async (rank) => {
        for (const data of arrays()) await rank.allReduce(data)
      })
      expect(atOnce).toEqual(inTurn)
    })

    test('no rank leaves a barrier before the last has come', async () => {
      const left: number[] = []
      const early = group.slice(1).map((rank) => rank.barrier().then(() => left.push(rank.rank)))
      await new Promise((resolve) => setTimeout(resolve, 50))
      expect(left).toEqual([])
      await group[0]!.barrier()
      await Promise.all(early)
    })
  })
})
