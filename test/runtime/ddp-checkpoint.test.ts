/** Saving and resuming a whole training run, with dropout and optimizer state, on several ranks. */
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { DataLoader, type DataLoaderState } from '../../src/data/data-loader.js'
import { DistributedSampler } from '../../src/data/distributed-sampler.js'
import { LockstepError } from '../../src/errors.js'
import type { Ddp } from '../../src/runtime/ddp.js'
import { adam, cosine, linearWarmup, momentum } from '../../src/runtime/optimizers/index.js'
import type { World } from '../../src/runtime/world.js'
import { asRanks, failures, samples, tinyModel } from './ranks.js'

const loss = 'softmaxCrossEntropy'
let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const start = (world: World) =>
  world.ddp(tinyModel({ dropout: 0.3 }), { loss, optimizer: adam(0.01), seed: 5 })

async function trainTo(world: World, ddp: Ddp, last: number): Promise<void> {
  while (ddp.stepCount < last) {
    const from = ddp.stepCount * 20 + world.rank * 5
    const { x, y } = samples(from, from + 5)
    await ddp.accumulate(x, y)
    await ddp.step(x, y)
  }
}

test('a resumed run ends where the uninterrupted one does', async () => {
  const uninterrupted = await asRanks(2, async (world) => {
    const ddp = await start(world)
    await trainTo(world, ddp, 6)
    return ddp.paramsSha256()
  })
  const saved = await asRanks(2, async (world) => {
    const ddp = await start(world)
    await trainTo(world, ddp, 4)
    return ddp.save(directory, { epoch: 1, order: [3, 1, 2] })
  })
  expect(saved).toEqual([join(directory, 'step-00000004'), join(directory, 'step-00000004')])
  const resumed = await asRanks(2, async (world) => {
    const ddp = await start(world)
    expect(await ddp.load(directory)).toEqual({ epoch: 1, order: [3, 1, 2] })
    expect(ddp.stepCount).toBe(4)
    await trainTo(world, ddp, 6)
    return ddp.paramsSha256()
  })
  expect(resumed).toEqual(uninterrupted)
})

test('an empty or missing directory is a fresh start', async () => {
  await asRanks(2, async (world) => {
    const ddp = await start(world)
    expect(await ddp.load(directory)).toBeUndefined()
    expect(await ddp.load(join(directory, 'none'))).toBeUndefined()
  })
})

async function saveOne(): Promise<string> {
  const [path] = await asRanks(1, async (world) => {
    const ddp = await start(world)
    await trainTo(world, ddp, 1)
    return ddp.save(directory)
  })
  return path!
}

test('another model is refused on every rank, saying which tensors differ', async () => {
  await saveOne()
  const errors = await failures(2, async (world) => {
    const model = sequential({ layers: [layers.dense({ inputShape: [6], units: 4, name: 'hidden' })] })
    await (await world.ddp(model, { loss, optimizer: adam(0.01) })).load(directory)
  })
  for (const { name, message } of errors) {
    expect(name).toBe('LockstepError')
    expect(message).toContain('hidden/kernel')
    expect(message).toContain('scores/kernel')
    expect(message).not.toContain('\n')
  }
})

test('another optimizer is refused, naming both', async () => {
  await saveOne()
  const [error] = await failures(1, async (world) => {
    await (await world.ddp(tinyModel({ dropout: 0.3 }), { loss, optimizer: momentum(0.1) })).load(directory)
  })
  expect(error!.message).toMatch(/written with optimizer adam, this run uses momentum/)
})

test('a tensor of another shape is refused on every rank, with both shapes', async () => {
  await saveOne()
  const errors = await failures(2, async (world) => {
    const model = sequential({
      layers: [
        layers.dense({ inputShape: [6], units: 8, name: 'hidden' }),
        layers.dense({ units: 5, name: 'scores' }),
      ],
    })
    await (await world.ddp(model, { loss, optimizer: adam(0.01) })).load(directory)
  })
  for (const { message } of errors) {
    expect(message).toContain('2 of another shape (scores/kernel [8,3] instead of [8,5], scores/bias [3]')
  }
})

test('a truncated checkpoint is refused on every rank, naming the file', async () => {
  const path = await saveOne()
  truncateSync(join(path, 'model.safetensors'), 100)
  for (const { message } of await failures(2, async (world) => (await start(world)).load(directory))) {
    expect(message).toContain('model.safetensors')
  }
})

test('a damaged newest one is passed over by every rank, with one line on stderr', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => error.mockRestore())
  const shas = await asRanks(2, async (world) => {
    const ddp = await start(world)
    await trainTo(world, ddp, 1)
    await ddp.save(directory, { at: 1 })
    const sha = ddp.paramsSha256()
    await trainTo(world, ddp, 2)
    const path = await ddp.save(directory, { at: 2 })
    if (world.rank === 0) rmSync(join(path, 'optimizer.safetensors'))
    expect(await ddp.load(directory)).toEqual({ at: 1 })
    expect(ddp.stepCount).toBe(1)
    return [sha, ddp.paramsSha256()]
  })
  for (const [saved, loaded] of shas) expect(loaded).toBe(saved)
  expect(error.mock.calls).toEqual([
    [
      expect.stringMatching(
        /^lockstep: checkpoint \S+step-00000002 is damaged \(ENOENT: .*optimizer.safetensors'\): resuming from \S+step-00000001$/,
      ),
    ],
  ])
})

test('the best one, or that of a step, where it is asked for', async () => {
  await asRanks(2, async (world) => {
    const ddp = await start(world)
    for (const value of [0.5, 0.9, 0.7]) {
      await trainTo(world, ddp, ddp.stepCount + 1)
      await ddp.save(directory, { value }, { keepLast: 2, metric: { name: 'accuracy', value, mode: 'max' } })
    }
    expect(await ddp.load(directory, { best: 'accuracy' })).toEqual({ value: 0.9 })
    expect(await ddp.load(directory, { step: 3 })).toEqual({ value: 0.7 })
    await expect(ddp.load(directory, { step: 1 })).rejects.toThrow('has no checkpoint of step 1')
  })
  expect(readdirSync(directory).sort()).toEqual(['step-00000002', 'step-00000003'])
})

test('a directory that cannot be written is an error on every rank, naming path and cause; nothing is left', async () => {
  const file = join(directory, 'file')
  writeFileSync(file, '')
  const errors = await failures(3, async (world) => {
    const ddp = await start(world)
    await trainTo(world, ddp, 1)
    await ddp.save(join(file, 'checkpoints'))
  })
  for (const { message } of errors)
    expect(message).toMatch(/file\/checkpoints.*(ENOTDIR|EEXIST|not a directory)/)
  expect(readdirSync(directory)).toEqual(['file'])
})

describe('a save in the background', () => {
  /** Training does not wait for the disk, and what is written is what was there at the call. */
  test('holds the state at the call, while training goes on', async () => {
    const resumed = await asRanks(2, async (world) => {
      const ddp = await start(world)
      await trainTo(world, ddp, 3)
      const sha = ddp.paramsSha256()
      const path = await ddp.save(directory, { at: 3 }, { background: true })
      await trainTo(world, ddp, 5)
      await ddp.saved()
      expect(readdirSync(directory)).toEqual(['step-00000003'])
      const end = ddp.paramsSha256()
      expect(await ddp.load(directory)).toEqual({ at: 3 })
      const loaded = ddp.paramsSha256()
      await trainTo(world, ddp, 5)
      return { path, same: loaded === sha, again: ddp.paramsSha256() === end }
    })
    expect(resumed).toEqual(
      Array(2).fill({ path: join(directory, 'step-00000003'), same: true, again: true }),
    )
  })

  test('is waited for by the next save, by load and by close', async () => {
    await asRanks(2, async (world) => {
      const ddp = await start(world)
      for (const step of [1, 2]) {
        await trainTo(world, ddp, step)
        await ddp.save(directory, { step }, { background: true, keepLast: 1 })
      }
      expect(await ddp.load(directory)).toEqual({ step: 2 })
      await trainTo(world, ddp, 3)
      await ddp.save(directory, {}, { background: true, keepLast: 1 })
      await world.close()
      expect(readdirSync(directory)).toEqual(['step-00000003'])
    })
  })

  const ways: [string, (world: World, ddp: Ddp) => Promise<unknown>][] = [
    ['saved()', (_, ddp) => ddp.saved()],
    ['the next save', (_, ddp) => ddp.save(directory)],
    ['load', (_, ddp) => ddp.load(directory)],
    ['close', (world) => world.close()],
  ]
  test.each(ways)('gives its error to every rank at %s, once', async (_, next) => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    await asRanks(3, async (world) => {
      const ddp = await start(world)
      await ddp.save(join(file, 'below'), {}, { background: true })
      await trainTo(world, ddp, 1)
      const error: Error = await next(world, ddp).then(
        () => expect.unreachable('it was not told'),
        (error) => error,
      )
      expect(error).toBeInstanceOf(LockstepError)
      expect(error.message).toMatch(
        /^cannot write checkpoint .*file\/below\/step-00000000: ENOTDIR.*; give a directory/,
      )
      await ddp.saved()
    })
  })

  test('that makes no sense is refused before anything is written', async () => {
    for (const { message } of await failures(2, async (world) =>
      (await start(world)).save(directory, {}, { background: true, keepLast: 0 }),
    ))
      expect(message).toBe('save: keepLast is 0, expected a whole number of at least 1')
  })
})

describe('resuming in mid-epoch', () => {
  const items = samples(0, 48)
  const datasetOf = (length: number) => ({
    length,
    batch: (indices: ArrayLike<number>) => {
      const all = Array.from(indices)
      const x = Float32Array.from(all.flatMap((i) => [...items.x.data.subarray(i * 6, i * 6 + 6)]))
      const y = Int32Array.from(all, (i) => items.y.data[i]!)
      return { x: { data: x, shape: [all.length, 6] }, y: { data: y, shape: [all.length] } }
    },
  })

  interface Plan {
    readonly total: number
    readonly batchSize: number
    readonly dropout: number
    readonly saveAt?: number
    readonly stopAt?: number
  }

  /** Two epochs, or until step `stopAt`, from the checkpoint if there is one; saves one in the background. */
  function run(size: number, plan: Plan) {
    const { total, batchSize, dropout, saveAt, stopAt } = plan
    return asRanks(size, async (world) => {
      const lr = linearWarmup({ steps: 3, next: cosine({ lr: 0.02, steps: 12 }) })
      const ddp = await world.ddp(tinyModel({ dropout }), { loss, optimizer: adam(lr), seed: 5 })
      const sampler = new DistributedSampler(total, { rank: world.rank, size, seed: 3 })
      const loader = new DataLoader(datasetOf(total), { batchSize, sampler })
      const state = (await ddp.load(directory)) as { position: DataLoaderState } | undefined
      if (state) loader.loadStateDict(state.position)
      const losses: number[] = []
      for (let epoch = state?.position.epoch ?? 0; epoch < 2; epoch++) {
        sampler.setEpoch(epoch)
        for await (const { x, y } of loader) {
          losses.push((await ddp.step(x, y)).loss)
          if (ddp.stepCount === saveAt)
            await ddp.save(directory, { position: loader.stateDict() }, { background: true })
          if (ddp.stepCount === stopAt) return { losses, sha: ddp.paramsSha256() }
        }
      }
      return { losses, sha: ddp.paramsSha256() }
    })
  }

  test.each([3, 6, 8])(
    'saved at step %i of 12, dropout, shuffling and schedule go on bit for bit',
    async (saveAt) => {
      const plan = { total: 45, batchSize: 4, dropout: 0.3 } // the last batch is short, and one item is padding
      const [whole] = await run(2, plan)
      expect(whole!.losses).toHaveLength(12)
      await run(2, { ...plan, saveAt, stopAt: saveAt + 2 }) // what came after the save is lost
      const [resumed] = await run(2, plan)
      expect(resumed!.losses).toEqual(whole!.losses.slice(saveAt))
      expect(resumed!.sha).toBe(whole!.sha)
    },
  )

  test.each([
    [1, 8],
    [4, 2],
  ])('on %i ranks instead of 2, the global batch the same, so are all losses', async (size, batchSize) => {
    const plan = { total: 48, batchSize: 4, dropout: 0 }
    const [whole] = await run(2, plan)
    await run(2, { ...plan, saveAt: 3, stopAt: 4 })
    const [resumed] = await run(size, { ...plan, batchSize })
    expect(resumed!.losses).toHaveLength(9)
    resumed!.losses.forEach((loss, i) => {
      expect(Math.abs(loss / whole!.losses[3 + i]! - 1)).toBeLessThan(1e-5)
    })
  })
})
