/** Saving and resuming a whole training run, with dropout and optimizer state, on several ranks. */
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Ddp } from '../../src/runtime/ddp.js'
import { adam, momentum } from '../../src/runtime/optimizers/index.js'
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

test('a truncated checkpoint is refused on every rank, naming the file', async () => {
  const path = await saveOne()
  truncateSync(join(path, 'model.safetensors'), 100)
  for (const { message } of await failures(2, async (world) => (await start(world)).load(directory))) {
    expect(message).toContain('model.safetensors')
  }
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
