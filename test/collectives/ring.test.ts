/**
 * What the algorithms cost: the frames and payload bytes that each rank hands to its links, to the byte.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SMALL_BYTES } from '../../src/collectives/all-reduce.js'
import type { Call, Operation } from '../../src/collectives/call.js'
import { worldChannel } from '../../src/collectives/channel.js'
import { blocksOf, chunkOf, modulo } from '../../src/collectives/chunks.js'
import { Station } from '../../src/collectives/station.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
import { BLOCK_BYTES } from '../../src/collectives/wire/frame.js'

async function costs(size: number, operation: Operation, elements: number, extra: Partial<Call> = {}) {
  const engines = memoryTransports(size).map((transport) =>
    new Station(transport, 5000).open(worldChannel(size)),
  )
  const call: Call = { operation, dtype: 'float32', count: elements, ...extra }
  await Promise.all(engines.map((engine) => engine.run(call, new Float32Array(elements))))
  return engines.map(({ links }) => ({ bytes: links.bytesSent, frames: links.messagesSent }))
}

/** Bytes and frames of some chunks of `count` float32, by their numbers. */
function chunks(count: number, size: number, numbers: readonly number[]) {
  const lengths = numbers.map((number) => chunkOf(count, size, modulo(number, size)))
  const bytes = lengths.reduce((sum, { start, end }) => sum + (end - start) * 4, 0)
  const frames = lengths.reduce((sum, { start, end }) => {
    return sum + Math.max(1, Math.ceil(((end - start) * 4) / BLOCK_BYTES))
  }, 0)
  return { bytes, frames }
}

/** Of recursive doubling, `rank`'s frames and bytes: one to each partner, and empty announcements. */
function doubling(count: number, size: number, rank: number) {
  const power = 2 ** Math.floor(Math.log2(size))
  const paired = rank + power < size
  const arrays = rank >= power ? 1 : Math.log2(power) + (paired ? 1 : 0)
  const blocks = Math.max(1, Math.ceil((count * 4) / BLOCK_BYTES))
  return { bytes: arrays * count * 4, frames: arrays * blocks + (paired ? 1 : 0) }
}

const steps = (count: number) => Array.from({ length: count }, (_, step) => step)

describe.each([2, 3, 4, 5])('%i ranks', (size) => {
  test.each([0, 1, 17, 1000, 200_003])('ring collectives over %i elements', async (count) => {
    const reduced = await costs(size, 'all_reduce', count, { reduction: 'sum' })
    reduced.forEach((cost, rank) => {
      const sent = steps(2 * (size - 1)).map((step) => rank - 1 - step)
      expect(cost).toEqual(count * 4 > SMALL_BYTES ? chunks(count, size, sent) : doubling(count, size, rank))
    })
    const scattered = await costs(size, 'reduce_scatter', count, { reduction: 'sum' })
    scattered.forEach((cost, rank) => {
      expect(cost).toEqual(
        chunks(
          count,
          size,
          steps(size - 1).map((step) => rank - 1 - step),
        ),
      )
    })
    const gathered = await costs(size, 'all_gather', count)
    gathered.forEach((cost, rank) => {
      expect(cost).toEqual(
        chunks(
          count,
          size,
          steps(size - 1).map((step) => rank - step),
        ),
      )
    })
  })

  test('an all-reduce sends 2(W - 1)/W of the payload', async () => {
    const count = size * 100_000
    for (const { bytes } of await costs(size, 'all_reduce', count, { reduction: 'sum' })) {
      expect(bytes).toBe((2 * (size - 1) * count * 4) / size)
    }
  })

  test('a broadcast sends the array once per link, and the announcements', async () => {
    const count = 100_000
    const root = size - 1
    const blocks = Math.ceil((count * 4) / BLOCK_BYTES)
    const sent = await costs(size, 'broadcast', count, { root })
    sent.forEach((cost, rank) => {
      if (rank === root) expect(cost).toEqual({ bytes: count * 4, frames: blocks })
      else if (modulo(rank + 1, size) === root) expect(cost).toEqual({ bytes: 0, frames: 2 })
      else expect(cost).toEqual({ bytes: count * 4, frames: blocks + 1 })
    })
  })

  test('a barrier takes ⌈log2 W⌉ empty frames', async () => {
    for (const cost of await costs(size, 'barrier', 0)) {
      expect(cost).toEqual({ bytes: 0, frames: Math.ceil(Math.log2(size)) })
    }
  })
})

test('chunks and blocks cover every element once, in order', () => {
  fc.assert(
    fc.property(
      fc.nat(10_000),
      fc.integer({ min: 1, max: 17 }),
      fc.integer({ min: 1, max: 700 }),
      (count, size, most) => {
        const blocks = steps(size).flatMap((index) => blocksOf(chunkOf(count, size, index), most))
        let at = 0
        for (const { start, end } of blocks) {
          expect(start).toBe(at)
          expect(end - start).toBeLessThanOrEqual(most)
          at = end
        }
        expect(at).toBe(count)
        const lengths = steps(size)
          .map((index) => chunkOf(count, size, index))
          .map(({ start, end }) => end - start)
        expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1)
      },
    ),
  )
})
