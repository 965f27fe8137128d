import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DistributedSampler } from '../../src/data/distributed-sampler.js'
import { EvaluationSampler } from '../../src/data/evaluation-sampler.js'
import { Mt19937, PERMUTATION_LIMIT } from '../../src/data/mt19937.js'
import { LockstepError } from '../../src/errors.js'

interface GoldenCase {
  length: number
  size: number
  shuffle: boolean
  seed: number
  epoch: number
  dropLast: boolean
  shards?: number[][]
  perRank?: number
  /** Of the ranks' shards one after the other, as uint32 little-endian. */
  sha256?: string
}
const golden: { torch: string; cases: GoldenCase[] } = JSON.parse(
  readFileSync(new URL('./golden/sampler.json', import.meta.url), 'utf8'),
)

function shardsOf({ length, size, epoch, ...options }: GoldenCase): number[][] {
  return Array.from({ length: size }, (_, rank) => {
    const sampler = new DistributedSampler(length, { ...options, rank, size })
    sampler.setEpoch(epoch)
    const indices = [...sampler]
    expect(sampler.length).toBe(indices.length)
    return indices
  })
}

const sha256 = (indices: number[]) => createHash('sha256').update(Uint32Array.from(indices)).digest('hex')

describe('Mt19937', () => {
  it('gives the published numbers of the default seed 5489', () => {
    const random = new Mt19937(5489)
    expect(random.uint32()).toBe(3499211612)
    for (let i = 2; i < 10_000; i++) random.uint32()
    expect(random.uint32()).toBe(4123659995) // the 10,000th, as the C++ standard demands of std::mt19937
  })
})

describe(`DistributedSampler is that of torch ${golden.torch}`, () => {
  it.each([1, 2, 3, 10, 97, 1000, 10000, 60000, 123457, 1000003])('for %i items', (length) => {
    const cases = golden.cases.filter((c) => c.length === length)
    expect(cases.length).toBeGreaterThan(0)
    for (const c of cases) {
      const shards = shardsOf(c)
      if (c.shards) expect(shards, JSON.stringify(c)).toEqual(c.shards)
      else {
        for (const shard of shards) expect(shard).toHaveLength(c.perRank!)
        expect(sha256(shards.flat()), JSON.stringify(c)).toBe(c.sha256)
      }
    }
  })
})

describe('DistributedSampler', () => {
  it('gives the ranks together the batches of a world of one', () => {
    const [whole] = shardsOf({ length: 960, size: 1, shuffle: true, seed: 7, epoch: 2, dropLast: false })
    const [even, odd] = shardsOf({ length: 960, size: 2, shuffle: true, seed: 7, epoch: 2, dropLast: false })
    for (let k = 0; k < 960 / 128; k++) {
      const together = [...even!.slice(64 * k, 64 * k + 64), ...odd!.slice(64 * k, 64 * k + 64)]
      expect(new Set(together)).toEqual(new Set(whole!.slice(128 * k, 128 * k + 128)))
    }
  })

  it('starts every iteration anew', () => {
    const sampler = new DistributedSampler(50, { rank: 1, size: 3 })
    expect([...sampler]).toEqual([...sampler])
    const first = [...sampler]
    sampler.setEpoch(1)
    expect(sampler.epoch).toBe(1)
    expect([...sampler]).not.toEqual(first)
  })

  it.each([
    [() => new DistributedSampler(0, { rank: 0, size: 1 }), /length is 0, expected an integer of at least 1/],
    [() => new DistributedSampler(10, { rank: 0, size: 0 }), /size is 0, .*at least 1.*world\.size/],
    [() => new DistributedSampler(10, { rank: 2, size: 2 }), /rank is 2, .* from 0 to 1 .*world\.rank/],
    [() => new DistributedSampler(10, { rank: -1, size: 2 }), /rank is -1/],
    [() => new DistributedSampler(10, { rank: 0, size: 2, seed: 0.5 }), /seed is 0\.5/],
    [() => new DistributedSampler(10, { rank: 0, size: 2 }).setEpoch(-1), /epoch is -1/],
    [
      () => new DistributedSampler(PERMUTATION_LIMIT, { rank: 0, size: 2 }),
      /length is 214748364, .*shuffle: false/,
    ],
    [() => new EvaluationSampler(Number.NaN, { rank: 0, size: 1 }), /length is NaN/],
    [() => new EvaluationSampler(10, { rank: 5, size: 5 }), /EvaluationSampler: rank is 5/],
  ])('refuses nonsense in one line (%#)', (make, message) => {
    expect(make).toThrow(LockstepError)
    expect(make).toThrow(message)
    expect(make).not.toThrow(/\n/)
  })
})

describe('EvaluationSampler', () => {
  it('gives every index to exactly one rank, in order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 40 }), (length, size) => {
        const samplers = Array.from(
          { length: size },
          (_, rank) => new EvaluationSampler(length, { rank, size }),
        )
        for (const sampler of samplers) expect([...sampler]).toHaveLength(sampler.length)
        const all = samplers.flatMap((sampler) => [...sampler]).sort((a, b) => a - b)
        expect(all).toEqual(Array.from({ length }, (_, i) => i))
      }),
    )
  })
})
