/** Training in 16 bits: near to float32, skipped together, and what goes wrong. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tf from '@tensorflow/tfjs-core'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { glorotFrom } from '../../../src/models/seeds.js'
import type { DdpOptions } from '../../../src/runtime/ddp-options.js'
import { adam, sgd } from '../../../src/runtime/optimizers/index.js'
import type { World } from '../../../src/runtime/world.js'
import { asRanks, failures, samples, tinyModel } from '../ranks.js'

const directory = mkdtempSync(join(tmpdir(), 'precision-'))
afterAll(() => rmSync(directory, { recursive: true }))
/** What ranks say: that the cpu provider rounds. */
const said = vi.spyOn(console, 'error')
beforeAll(() => said.mockImplementation(() => {}))
afterAll(() => said.mockRestore())

const options = (given: Partial<DdpOptions> = {}): DdpOptions => ({
  ...{ loss: 'softmaxCrossEntropy', optimizer: adam(0.02), precision: 'float16' },
  ...given,
})

/** One kernel of 64 × 64 is large enough to be compressed. */
function wider() {
  const glorot = glorotFrom(1)
  const dense = (units: number, name: string, rest = {}) =>
    layers.dense({ units, name, kernelInitializer: glorot(), ...rest })
  return sequential({
    layers: [dense(64, 'first', { inputShape: [6] }), dense(64, 'second'), dense(3, 'scores')],
  })
}

/** A rank's batch of a step; `huge`: numbers that no float16 holds. */
function batchOf({ rank, size }: World, step: number, huge = false) {
  const from = (step * size + rank) * 8
  const { x, y } = samples(from, from + 8)
  if (huge) x.data.fill(1e5)
  return { x, y }
}

const STEPS = 12

function losses(given: Partial<DdpOptions>) {
  return asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), options({ overlap: 1, ...given }))
    const all: number[] = []
    for (let step = 0; step < STEPS; step++) {
      const { x, y } = batchOf(world, step)
      const { loss, skipped, lossScale } = await ddp.step(x, y)
      expect(skipped).toBeUndefined()
      expect(lossScale).toBe(given.precision === 'float16' ? 65536 : undefined)
      all.push(loss)
    }
    return { all, sha: ddp.paramsSha256() }
  })
}

test.each(['float16', 'bfloat16'] as const)(
  '%s follows float32, with the same parameters on all ranks',
  async (precision) => {
    const [exact] = await losses({ precision: 'float32' })
    const ranks = await losses({ precision })
    expect(ranks[1]!.sha).toBe(ranks[0]!.sha)
    expect(ranks[0]!.sha).not.toBe(exact!.sha)
    const differences = ranks[0]!.all.map((loss, i) => Math.abs(loss - exact!.all[i]!))
    expect(Math.max(...differences)).toBeLessThan(precision === 'float16' ? 2e-3 : 2e-2)
  },
)

test('without a scale small gradients vanish in float16', async () => {
  const moved = async (lossScale: number) => {
    const [result] = await asRanks(1, async (world) => {
      const layer = layers.dense({
        ...{ inputShape: [6], units: 3, useBias: false, kernelInitializer: glorotFrom(1)() },
      })
      const ddp = await world.ddp(sequential({ layers: [layer] }), {
        ...options({ optimizer: sgd(1), lossScale }),
        loss: (_, scores) => tf.mul(tf.mean(scores), 1e-8),
      })
      const before = ddp.paramsSha256()
      const { x, y } = batchOf(world, 0)
      for (let i = 0; i < 50; i++) await ddp.step(x, y)
      return ddp.paramsSha256() !== before
    })
    return result
  }
  expect(await moved(1)).toBe(false)
  expect(await moved(65536)).toBe(true)
})

describe.each<[string, Partial<DdpOptions>]>([
  ['all-reduced after the pass', { overlap: 1 }],
  ['all-reduced during the pass', { overlap: 3, bucketBytes: 4096 }],
  ['compressed', { compression: 'onebit', overlap: 1 }],
  ['compressed during the pass', { compression: 'onebit', overlap: 3, bucketBytes: 4096 }],
  ['ZeRO 1', { zero: 1 }],
  ['ZeRO 2', { zero: 2, bucketBytes: 4096 }],
  ['ZeRO 3', { zero: 3, bucketBytes: 4096 }],
])('%s: an overflow on one rank', (_, given) => {
  test('skips the step on all, halves the scale, and leaves no trace', async () => {
    const train = (huge: boolean) =>
      asRanks(2, async (world) => {
        const ddp = await world.ddp(wider(), options({ ...given, lossScale: { initScale: 1024 } }))
        const results = []
        for (let step = 0; step < 6; step++) {
          if (huge && step === 3) {
            const { x, y } = batchOf(world, 99, world.rank === 1)
            results.push(await ddp.step(x, y))
            expect(ddp.stepCount).toBe(3)
          }
          const { x, y } = batchOf(world, step)
          results.push(await ddp.step(x, y))
        }
        await ddp.gather()
        return { results, sha: ddp.paramsSha256() }
      })
    const [clean, ...ranks] = [(await train(false))[0]!, ...(await train(true))]
    for (const { results, sha } of ranks) {
      expect(results[3]).toMatchObject({ skipped: true, samples: 16, lossScale: 1024 })
      expect(results[4]).not.toHaveProperty('skipped')
      expect(results[4]!.lossScale).toBe(512)
      // Powers of two change no bits.
      expect(results.toSpliced(3, 1).map(({ loss }) => loss)).toEqual(clean.results.map(({ loss }) => loss))
      expect(sha).toBe(clean.sha)
    }
  })
})

test('an overflow of a micro-batch skips the step that it waits for', async () => {
  const [result] = await asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), options())
    const [bad, good] = [batchOf(world, 0, world.rank === 1), batchOf(world, 1)]
    await ddp.accumulate(bad.x, bad.y)
    const first = await ddp.step(good.x, good.y)
    return [first, await ddp.step(good.x, good.y)]
  })
  expect(result!.map(({ skipped }) => skipped)).toEqual([true, undefined])
})

test('a scale that falls below its minimum is an error, with the first tensor that overflowed', async () => {
  const errors = await failures(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), options({ lossScale: { initScale: 4 } }))
    const { x, y } = batchOf(world, 0, world.rank === 1)
    for (;;) await ddp.step(x, y)
  })
  expect(errors[1]!.message).toBe(errors[0]!.message)
  expect(errors[0]!.message).toMatch(
    /^the loss scale would fall from 1 to 0\.5, below its minimum of 1: the gradient of scores\/\w+ of step 1 is not finite on rank 1;/,
  )
})

test('a checkpoint keeps the scale', async () => {
  const path = join(directory, 'scale')
  const scales = await asRanks(2, async (world) => {
    const ddp = await world.ddp(tinyModel(), options())
    const bad = batchOf(world, 0, true)
    await ddp.step(bad.x, bad.y)
    await ddp.save(path)
    const resumed = await world.ddp(tinyModel(), options())
    await resumed.load(path)
    const { x, y } = batchOf(world, 1)
    return (await resumed.step(x, y)).lossScale
  })
  expect(scales).toEqual([32768, 32768])
})

test('that the cpu provider only rounds is said once, on rank 0', async () => {
  said.mockClear()
  await losses({ precision: 'bfloat16' })
  expect(said.mock.calls.map(([line]) => line)).toEqual([
    expect.stringMatching(/^lockstep: precision bfloat16: onnxruntime's cpu provider computes in float32;/),
  ])
})

describe('bad input', () => {
  test.each<[string, object, string]>([
    [
      'an unknown precision',
      { precision: 'float8' },
      'precision is "float8": expected float32, bfloat16, float16',
    ],
    [
      'an engine of float32',
      { engine: 'tfjs' },
      'engine tfjs computes in float32: leave precision float16 out',
    ],
    ['a scale', { lossScale: -1 }, 'lossScale is -1: expected a number above 0'],
  ])('%s', async (_, given, message) => {
    const [error] = await failures(1, (world) => world.ddp(tinyModel(), options(given)))
    expect(error!.message).toContain(message)
  })

  test('ranks that differ', async () => {
    const [error] = await failures(2, (world) =>
      world.ddp(tinyModel(), options({ precision: world.rank === 0 ? 'float16' : 'float32' })),
    )
    expect(error!.message).toMatch(/^precision is "float16, loss scale .*" on rank 0 and "float32" on rank 1/)
  })
})
