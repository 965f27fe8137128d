/** Exchanging gradients during the backward pass: the same training, begun early, chosen by what is fastest. */
import { expect, test } from 'vitest'
import type { Communicator, GroupOptions } from '../../src/collectives/communicator.js'
import { loadForeignMemory } from '../../src/collectives/foreign-memory.js'
import { bucketsFromTheEnd, segmentsOf } from '../../src/runtime/buckets.js'
import { adam, clipByGlobalNorm, lamb, type Optimizer } from '../../src/runtime/optimizers/index.js'
import { OverlappedExchange } from '../../src/runtime/overlapped-exchange.js'
import { GROUPS } from '../collectives/groups.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const train = (overlap: number | 'auto', optimizer: Optimizer, accumulate = false) =>
  asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel({ dropout: 0.2 }), {
      loss: 'softmaxCrossEntropy',
      optimizer,
      overlap,
      bucketBytes: 64,
    })
    const losses: number[] = []
    for (let step = 0; step < 4; step++) {
      const from = (step * 2 + world.rank) * 8
      if (accumulate && step === 2) await ddp.accumulate(samples(from, from + 4).x, samples(from, from + 4).y)
      const { x, y } = samples(from, from + 8)
      losses.push((await ddp.step(x, y)).loss)
    }
    return { losses, sha: ddp.paramsSha256() }
  })

test.each([
  ['adam', adam(0.01)],
  ['lamb, by tensors', lamb(0.01)],
  ['clipped, all at once', clipByGlobalNorm(adam(0.01), 0.5)],
])('%s: the same bits with and without', async (_, optimizer) => {
  const [after] = await train(1, optimizer)
  for (const ranks of [await train(2, optimizer), await train(4, optimizer)])
    expect(ranks).toEqual([after, after])
})

test('what waits from accumulate is added before it is exchanged', async () => {
  expect(await train(3, adam(0.01), true)).toEqual(await train(1, adam(0.01), true))
})

test('a NaN is an error on every rank, naming where', async () => {
  const errors = await failures(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), {
      loss: 'softmaxCrossEntropy',
      optimizer: adam(0.01),
      overlap: 2,
    })
    const { x, y } = samples(0, 8)
    const bad = { ...x, data: x.data.slice().fill(world.rank === 1 ? Number.NaN : 0) }
    await ddp.step(bad, y)
  })
  for (const { message } of errors)
    expect(message).toMatch(/the loss of step 1 is not finite on rank 1 \(NaN\)/)
})

test('segments make whole buckets, the last first, of about as many floats each', () => {
  const tensors = [8, 8, 8, 16, 32].map((floats, i, all) => {
    const start = all.slice(0, i).reduce((a, b) => a + b, 0)
    return { name: `${i}`, shape: [floats], start, end: start + floats }
  })
  const buckets = bucketsFromTheEnd(tensors, 0, 72, 64)
  expect(buckets.map(({ positions }) => positions)).toEqual([[4], [3], [1, 2], [0]])
  expect(segmentsOf(buckets, 1)).toEqual([[4, 3, 1, 2, 0]])
  expect(segmentsOf(buckets, 2)).toEqual([[4], [3, 1, 2, 0]])
  expect(segmentsOf(buckets, 9)).toEqual([[4], [3], [1, 2], [0]])
})

const TENSORS = [0, 1, 2].map((i) => ({ name: `${i}`, shape: [32], start: 32 * i, end: 32 * i + 32 }))

test('a bucket sets out when all of it is there and those after it have, not before; the stats wait for none', async () => {
  const links = await GROUPS[0]!.connect(2)
  const [first, second] = links.map((link) => {
    const begun: number[] = []
    const watched = {
      size: 2,
      group: (ranks: readonly number[], options?: GroupOptions) =>
        options?.background ? watched : link.group(ranks),
      allReduce: (data: Float32Array) => {
        begun.push(data.byteOffset / 4)
        return link.allReduce(data)
      },
    } as unknown as Communicator
    const buffer = new Float32Array(16 + 96).fill(1)
    return { buffer, begun, exchange: new OverlappedExchange(watched, buffer, 16, TENSORS, 128) }
  })
  first!.exchange.made([1])
  expect(first!.begun).toEqual([])
  first!.exchange.made([2])
  expect(first!.begun).toEqual([16 + 64, 16 + 32])
  // The other rank makes them in another order, and all at once.
  second!.exchange.made([2, 0, 1])
  expect(second!.begun).toEqual([16 + 64, 16 + 32, 16])
  const order: number[][] = [[], []]
  await Promise.all(
    [first!, second!].map(async ({ exchange }, rank) => {
      for await (const { start, end } of exchange.sum()) order[rank]!.push(start, end)
    }),
  )
  expect(order[0]).toEqual([0, 16, 80, 112, 48, 80, 16, 48])
  expect(order[1]).toEqual(order[0])
  expect(first!.buffer.every((x) => x === 2)).toBe(true)
  await Promise.all(links.map((link) => link.close()))
})

test.skipIf((await loadForeignMemory()) === undefined)(
  'while this thread computes, a large bucket does not wait behind a small one',
  async () => {
    const links = await GROUPS.find(({ name }) => name === 'tcp')!.connect(2)
    const large = { name: 'large', shape: [300_000], start: 0, end: 300_000 }
    const small = { name: 'small', shape: [16], start: 300_000, end: 300_016 }
    const ranks = links.map((link) => {
      const buffer = new Float32Array(16 + small.end)
      return { buffer, exchange: new OverlappedExchange(link, buffer, 16, [large, small], 64) }
    })
    const finish = () =>
      Promise.all(
        ranks.map(async ({ exchange }) => {
          for await (const _ of exchange.sum());
        }),
      )
    await finish() // opens what is needed
    for (const { buffer, exchange } of ranks) {
      buffer.fill(1)
      exchange.made([0, 1])
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
    const sums = ranks.map(({ buffer }) => buffer.slice(16, 16 + large.end)) // a small one's is still elsewhere
    for (const sum of sums) expect(sum.every((x) => x === 2)).toBe(true)
    await finish()
    await Promise.all(links.map((link) => link.close()))
  },
)

test('wrong uses', async () => {
  const [error] = await failures(1, (world) =>
    world.ddp(tinyModel(), { loss: 'softmaxCrossEntropy', optimizer: adam(0.01), overlap: 0 }),
  )
  expect(error!.message).toBe('overlap is 0: expected auto, or segments of the backward pass (1, 2, …)')
})
