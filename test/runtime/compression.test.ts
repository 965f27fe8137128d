/** Training with compressed gradients: it learns, ranks stay equal, NaN is never remembered. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { glorotFrom } from '../../src/models/seeds.js'
import { adam, sgd } from '../../src/runtime/optimizers/index.js'
import { asRanks, failures, samples } from './ranks.js'

/** One kernel of 96 × 64 is large enough to be compressed. */
function model() {
  const glorot = glorotFrom(1)
  return sequential({
    layers: [
      layers.dense({
        inputShape: [6],
        units: 96,
        activation: 'relu',
        kernelInitializer: glorot(),
        name: 'first',
      }),
      layers.dense({ units: 64, activation: 'relu', kernelInitializer: glorot(), name: 'second' }),
      layers.dense({ units: 3, kernelInitializer: glorot(), name: 'scores' }),
    ],
  })
}

const STEPS = 25

function train(compression: string, size = 2, overlap = 1, steps = STEPS) {
  return asRanks(size, async (world) => {
    const optimizer = compression.startsWith('dgc') ? sgd(0.05) : adam(0.01)
    const ddp = await world.ddp(model(), {
      loss: 'softmaxCrossEntropy',
      optimizer,
      compression,
      overlap,
      bucketBytes: 4096,
    })
    const losses: number[] = []
    for (let step = 0; step < steps; step++) {
      const from = (step * size + world.rank) * 16
      const { x, y } = samples(from, from + 16)
      losses.push((await ddp.step(x, y)).loss)
    }
    return { losses, sha: ddp.paramsSha256(), sent: world.collectives.bytesSent }
  })
}

const lastLoss = (losses: readonly number[]) => losses.slice(-5).reduce((sum, loss) => sum + loss / 5, 0)

describe.each([
  'float16',
  'bfloat16',
  'int8',
  'int4',
  'onebit,warmup=5',
  'topk:0.05',
  'randomk:0.1',
  'dgc:0.25,momentum=0.5,rampup=8,clip=1',
  'powersgd:2',
  'topk:0.05+int8',
])('%s', (compression) => {
  test('learns, with the same parameters on all ranks', async () => {
    const [exact] = await train(compression.startsWith('dgc') ? 'dgc:1,momentum=0.5' : 'none')
    const ranks = await train(compression)
    expect(new Set(ranks.map(({ sha }) => sha)).size).toBe(1)
    expect(ranks[0]!.losses[0]).toBeCloseTo(exact!.losses[0]!, 6)
    expect(lastLoss(ranks[0]!.losses)).toBeLessThan(lastLoss(exact!.losses) + 0.25)
    // Velocities are zeroed where they are sent, so that DGC starts slowly.
    const least = compression.startsWith('dgc') ? 0.1 : 0.2
    expect(lastLoss(ranks[0]!.losses)).toBeLessThan(ranks[0]!.losses[0]! - least)
  })

  test('exchanged during the backward pass, it is the same training, bit for bit', async () => {
    const [after, during] = [await train(compression, 2, 1, 4), await train(compression, 2, 3, 4)]
    expect(during).toEqual(after)
  })
})

test('what is compressed is said once, on rank 0', async () => {
  const said = vi.spyOn(console, 'error').mockImplementation(() => {})
  await train('int8')
  const lines = said.mock.calls.map(([line]) => line as string)
  said.mockRestore()
  expect(lines).toHaveLength(1)
  expect(lines[0]).toMatch(
    /^lockstep: gradients travel as int8: 1 of 6 tensors, 8\d\.\d % of 7\d\d\d numbers; a rank sends/,
  )
})

test.each([
  ['int8', 1],
  ['topk:0.05', 1],
  ['powersgd:2', 1],
  ['dgc:0.05', 1],
  ['topk:0.05,warmup=2', 1],
  ['int4', 3],
  ['topk:0.05', 3],
  ['powersgd:2', 3],
] as const)(
  '%s, overlap %i: a NaN on one rank is an error that names it, and is not remembered',
  async (compression, overlap) => {
    const run = (nan: boolean) =>
      asRanks(2, async (world) => {
        const ddp = await world.ddp(model(), {
          loss: 'softmaxCrossEntropy',
          optimizer: sgd(0.1),
          ...{ compression, overlap, bucketBytes: 4096 },
        })
        const { x, y } = samples(world.rank * 16, world.rank * 16 + 16)
        await ddp.step(x, y)
        const bad = { ...x, data: x.data.slice().fill(world.rank === 1 ? Number.NaN : 0.5) }
        if (nan) await expect(ddp.step(bad, y)).rejects.toThrow('is not finite on rank 1 (NaN)')
        const { loss } = await ddp.step(x, y)
        await ddp.step(x, y)
        return [loss, ddp.paramsSha256()]
      })
    expect(await run(true)).toEqual(await run(false))
  },
)

test('ranks that compress differently are told so', async () => {
  const errors = await failures(2, (world) =>
    world.ddp(model(), {
      loss: 'softmaxCrossEntropy',
      optimizer: sgd(0.1),
      compression: world.rank === 0 ? 'int8' : 'none',
    }),
  )
  for (const { message } of errors) {
    expect(message).toBe('compression is "int8" on rank 0 and "none" on rank 1: give every rank the same')
  }
})

test('a wrong name is an error before anything is trained, also in a world of one', async () => {
  const [error] = await failures(1, (world) =>
    world.ddp(model(), { loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), compression: 'gzip' }),
  )
  expect(error!.message).toContain(
    'compression "gzip": no compressor is called "gzip"; expected none, float16',
  )
})

describe('a checkpoint holds what compressors remember', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-feedback-'))
  afterAll(() => rmSync(directory, { recursive: true }))

  /** `steps` steps, a save, and further steps; or only those, after a load. */
  const run = (where: string, compression: string, phase: 'first' | 'resumed', size = 2) =>
    asRanks(size, async (world) => {
      const ddp = await world.ddp(model(), {
        loss: 'softmaxCrossEntropy',
        optimizer: adam(0.01),
        compression,
      })
      if (phase === 'resumed') await ddp.load(where)
      for (let step = ddp.stepCount; step < 6; step++) {
        if (step === 3 && phase === 'first') await ddp.save(where)
        const from = (step * 2 + world.rank) * 16
        const { x, y } = samples(from, from + 16)
        await ddp.step(x, y)
      }
      return ddp.paramsSha256()
    })

  test.each(['topk:0.05', 'powersgd:2', 'onebit', 'int4', 'dgc:0.05'])(
    '%s: resumed bit for bit',
    async (name) => {
      const where = join(directory, name.replace(':', '-'))
      const uninterrupted = await run(where, name, 'first')
      expect(await run(where, name, 'resumed')).toEqual(uninterrupted)
    },
  )

  test('another number of ranks starts anew, and says so', async () => {
    const where = join(directory, 'resized')
    await run(where, 'topk:0.05', 'first')
    const said = vi.spyOn(console, 'error').mockImplementation(() => {})
    const ranks = await run(where, 'topk:0.05', 'resumed', 3)
    const lines = said.mock.calls.map(([line]) => line as string)
    said.mockRestore()
    expect(new Set(ranks).size).toBe(1)
    expect(lines).toContainEqual(
      expect.stringMatching(
        /step-00000003 has no error feedback of 3 ranks with these options: it starts anew$/,
      ),
    )
  })
})
