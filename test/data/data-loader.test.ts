import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DataLoader, type DataLoaderState } from '../../src/data/data-loader.js'
import type { Batch, Dataset } from '../../src/data/dataset.js'
import { DistributedSampler } from '../../src/data/distributed-sampler.js'
import { EvaluationSampler } from '../../src/data/evaluation-sampler.js'
import { LockstepError } from '../../src/errors.js'

/** A dataset whose items are their own indices, and which counts what it was asked for. */
function counting(length: number) {
  const asked: number[][] = []
  const dataset = {
    length,
    batch(indices: ArrayLike<number>): Batch {
      const data = Int32Array.from(indices)
      asked.push([...data])
      return { x: { data, shape: [data.length, 1] }, y: { data, shape: [data.length] } }
    },
  }
  return { dataset, asked }
}

async function drain(loader: DataLoader, limit = Number.POSITIVE_INFINITY): Promise<number[][]> {
  const batches: number[][] = []
  if (limit === 0) return batches
  for await (const { y } of loader) {
    batches.push([...y.data])
    if (batches.length === limit) break
  }
  return batches
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('DataLoader', () => {
  it('refuses what makes no batches', () => {
    const array = [1, 2, 3] as unknown as Dataset
    expect(() => new DataLoader(array, { batchSize: 1 })).toThrow(/the dataset has no batch\(\): expected/)
  })

  it('gives everything in order, the uneven last batch as it is, and again', async () => {
    const loader = new DataLoader(counting(7).dataset, { batchSize: 3 })
    expect(loader.length).toBe(3)
    expect(await drain(loader)).toEqual([[0, 1, 2], [3, 4, 5], [6]])
    expect(await drain(loader)).toEqual([[0, 1, 2], [3, 4, 5], [6]])
  })

  it('leaves the uneven last batch out with dropLast', async () => {
    const loader = new DataLoader(counting(7).dataset, { batchSize: 3, dropLast: true })
    expect(loader.length).toBe(2)
    expect(await drain(loader)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ])
  })

  it('asks the sampler anew in every epoch', async () => {
    const sampler = new DistributedSampler(100, { rank: 1, size: 2, seed: 3 })
    const loader = new DataLoader(counting(100).dataset, { batchSize: 8, sampler })
    for (const epoch of [0, 1, 5]) {
      sampler.setEpoch(epoch)
      expect((await drain(loader)).flat()).toEqual([...sampler])
    }
  })

  it.each([0, 1, 2, 5])('makes at most %i batches ahead', async (prefetch) => {
    const { dataset, asked } = counting(100)
    let received = 0
    for await (const _ of new DataLoader(dataset, { batchSize: 10, prefetch })) {
      received++
      await settle()
      expect(asked.length).toBe(Math.min(10, received + prefetch))
    }
    expect(received).toBe(10)
  })

  it('keeps the order of batches that finish out of order', async () => {
    const { dataset } = counting(6)
    const slow: Dataset = {
      length: 6,
      batch: async (indices) => {
        await new Promise((resolve) => setTimeout(resolve, 6 - indices[0]!))
        return dataset.batch(indices)
      },
    }
    expect((await drain(new DataLoader(slow, { batchSize: 1, prefetch: 5 }))).flat()).toEqual([
      0, 1, 2, 3, 4, 5,
    ])
  })

  it.each(['throws', 'rejects'])('hands out what comes before a batch whose dataset %s', async (how) => {
    const { dataset } = counting(5)
    const failing: Dataset = {
      length: 5,
      batch: (indices) => {
        if (indices[0] !== 2) return dataset.batch(indices)
        if (how === 'throws') throw new Error('bad item 2')
        return Promise.reject(new Error('bad item 2'))
      },
    }
    const received: number[] = []
    const loop = async () => {
      for await (const { y } of new DataLoader(failing, { batchSize: 1, prefetch: 4 })) {
        received.push(y.data[0]!)
        await settle() // the failure is there long before its turn, and vitest fails on unhandled rejections
      }
    }
    await expect(loop()).rejects.toThrow('bad item 2')
    expect(received).toEqual([0, 1])
  })

  it('leaves no floating rejection behind a loop that was left', async () => {
    const { dataset } = counting(5)
    const failing: Dataset = {
      length: 5,
      batch: async (indices) => {
        if (indices[0]! > 0) throw new Error('nobody hears this')
        return dataset.batch(indices)
      },
    }
    expect(await drain(new DataLoader(failing, { batchSize: 1 }), 1)).toEqual([[0]])
    await settle()
  })

  it('allows a short or empty shard in evaluation', async () => {
    const shards = await Promise.all(
      [0, 1, 2].map((rank) => {
        const sampler = new EvaluationSampler(2, { rank, size: 3 })
        return drain(new DataLoader(counting(2).dataset, { batchSize: 64, sampler }))
      }),
    )
    expect(shards).toEqual([[[0]], [[1]], []])
  })

  it.each([
    [{ batchSize: 0 }, /batchSize is 0, expected an integer of at least 1/],
    [{ batchSize: 2.5 }, /batchSize is 2\.5/],
    [{ batchSize: 2, prefetch: -1 }, /prefetch is -1/],
    [
      { batchSize: 64, sampler: new DistributedSampler(100, { rank: 0, size: 2 }) },
      /^DataLoader: batchSize is 64, expected at most 50, the items in this rank's shard; take a smaller batch,/,
    ],
  ])('refuses nonsense in one line (%#)', (options, message) => {
    const make = () => new DataLoader(counting(100).dataset, options)
    expect(make).toThrow(LockstepError)
    expect(make).toThrow(message)
  })
})

describe('DataLoader state', () => {
  const make = (epoch = 0) => {
    const sampler = new DistributedSampler(50, { rank: 0, size: 2, seed: 9 })
    sampler.setEpoch(epoch)
    return { sampler, loader: new DataLoader(counting(50).dataset, { batchSize: 4, sampler }) }
  }

  it('continues in mid-epoch with the very next batch', async () => {
    const whole = await drain(make(3).loader)
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length }), async (position) => {
        const first = make(3)
        expect(await drain(first.loader, position)).toEqual(whole.slice(0, position))
        const state = JSON.parse(JSON.stringify(first.loader.stateDict()))
        expect(state).toEqual({ epoch: 3, items: Math.min(position * 4, 25) * 2 })

        const second = make()
        second.loader.loadStateDict(state)
        expect(second.sampler.epoch).toBe(3)
        expect(second.loader.stateDict()).toEqual(state)
        expect(second.loader.remaining).toBe(whole.length - position)
        expect(await drain(second.loader)).toEqual(whole.slice(position))
        second.sampler.setEpoch(4)
        expect(await drain(second.loader)).toEqual(await drain(make(4).loader))
        expect(second.loader.stateDict()).toEqual({ epoch: 4, items: 50 })
        expect(second.loader.remaining).toBe(0)
      }),
    )
  })

  it('belongs to the epoch that was read, not to the one set since', async () => {
    const { loader, sampler } = make(1)
    await drain(loader, 2)
    sampler.setEpoch(2)
    expect(loader.stateDict()).toEqual({ epoch: 1, items: 16 })
  })

  it('counts epochs itself where the sampler does not', async () => {
    const loader = new DataLoader(counting(4).dataset, { batchSize: 2 })
    await drain(loader)
    expect(loader.stateDict()).toEqual({ epoch: 0, items: 4 })
    await drain(loader, 1)
    expect(loader.stateDict()).toEqual({ epoch: 1, items: 2 })
    loader.loadStateDict({ epoch: 7, items: 2 })
    expect(await drain(loader)).toEqual([[2, 3]])
    await drain(loader)
    expect(loader.stateDict()).toEqual({ epoch: 8, items: 4 })
  })

  it('refuses to resume in another epoch, and the state of another loader', async () => {
    const { loader, sampler } = make()
    loader.loadStateDict({ epoch: 2, items: 24 })
    sampler.setEpoch(0)
    await expect(drain(loader)).rejects.toThrow(
      /sampler is at epoch 0, expected 2, .*; start the loop .* at 2$/,
    )
    expect(() => loader.loadStateDict({ epoch: 0, items: 51 })).toThrow(/items is 51, expected at most 50/)
    expect(() => loader.loadStateDict({ epoch: -1, items: 0 })).toThrow(/epoch is -1/)
  })

  /** What all ranks of a world read, rank by rank, from `state` on and up to `batches` of them; and the state then. */
  async function read(
    total: number,
    { size, batchSize }: { size: number; batchSize: number },
    state: DataLoaderState | undefined,
    batches: number,
  ) {
    const loaders = Array.from({ length: size }, (_, rank) => {
      const sampler = new DistributedSampler(total, { rank, size, seed: 5 })
      const loader = new DataLoader(counting(total).dataset, { batchSize, sampler })
      if (state) loader.loadStateDict(state)
      return loader
    })
    const shards = await Promise.all(loaders.map((loader) => drain(loader, batches)))
    const states = loaders.map((loader) => loader.stateDict())
    expect(states).toEqual(Array(size).fill(states[0]))
    expect(new Set(shards.map((shard) => shard.length)).size).toBe(1) // no rank waits for another's step
    return { shards, state: states[0]! }
  }

  it('goes on with another number of ranks, twice: nothing lost, nothing twice but the padding', async () => {
    const world = fc.record({
      size: fc.integer({ min: 1, max: 5 }),
      batchSize: fc.integer({ min: 1, max: 4 }),
    })
    const some = fc.integer({ min: 1, max: 6 })
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 20, max: 60 }),
        world,
        some,
        world,
        some,
        world,
        async (total, ...run) => {
          const [first, batches, second, more, third] = run
          const one = await read(total, first, undefined, batches)
          const two = await read(total, second, one.state, more)
          const rest = await read(total, third, two.state, Number.POSITIVE_INFINITY)
          const times = new Array<number>(total).fill(0)
          for (const index of [one, two, rest].flatMap(({ shards }) => shards.flat(2))) times[index]!++
          expect(Math.min(...times)).toBe(1)
          const extra = times.reduce((sum, n) => sum + n - 1, 0)
          expect(extra).toBeLessThan(Math.max(first.size, second.size, third.size))
          expect(rest.state).toEqual({ epoch: 0, items: total })
        },
      ),
    )
  })

  it('with the same global batch, another number of ranks reads the very same global batches', async () => {
    const globalBatches = ({ shards }: { shards: number[][][] }) =>
      shards[0]!.map((_, k) => shards.flatMap((shard) => shard[k]!).sort((a, b) => a - b))
    const all = Number.POSITIVE_INFINITY
    const whole = globalBatches(await read(48, { size: 2, batchSize: 4 }, undefined, all))
    const begun = await read(48, { size: 2, batchSize: 4 }, undefined, 2)
    for (const world of [
      { size: 4, batchSize: 2 },
      { size: 1, batchSize: 8 },
    ]) {
      expect(globalBatches(await read(48, world, begun.state, all))).toEqual(whole.slice(2))
    }
  })
})
