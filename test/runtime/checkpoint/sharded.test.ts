/** Checkpoints that every rank writes its part of: what is in them, who can load them, and what damage does. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layers, sequential } from '@tensorflow/tfjs-layers'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { readCheckpoint } from '../../../src/runtime/checkpoint/checkpoints.js'
import type { Ddp } from '../../../src/runtime/ddp.js'
import type { DdpOptions } from '../../../src/runtime/ddp-options.js'
import { adam } from '../../../src/runtime/optimizers/index.js'
import type { World } from '../../../src/runtime/world.js'
import { asRanks, failures, samples, tinyModel } from '../ranks.js'

const loss = 'softmaxCrossEntropy'
let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const start = (world: World, options: Partial<DdpOptions> = {}) =>
  world.ddp(tinyModel(), { loss, optimizer: adam(0.01), ...options })

async function train(world: World, ddp: Ddp, steps: number): Promise<void> {
  const share = 12 / world.size
  for (let i = 0; i < steps; i++) {
    const from = ddp.stepCount * 12 + world.rank * share
    const { x, y } = samples(from, from + share)
    await ddp.step(x, y)
  }
}

async function shaOf(ddp: Ddp): Promise<string> {
  await ddp.gather()
  return ddp.paramsSha256()
}

const SHARDED = [
  'SHA256SUMS',
  'index.json',
  'shard-00000-of-00002.safetensors',
  'shard-00001-of-00002.safetensors',
  'state.json',
]
const FILES_OF_A_WHOLE = ['SHA256SUMS', 'model.safetensors', 'optimizer.safetensors', 'state.json']

describe('two ranks', () => {
  test('write a shard each where they share the state, and the whole where they do not, unless they are told', async () => {
    const filesOf = async (options: Partial<DdpOptions>, sharded?: boolean) => {
      const [path] = await asRanks(2, async (world) => {
        const ddp = await start(world, options)
        return ddp.save(directory, {}, sharded === undefined ? {} : { sharded })
      })
      return readdirSync(path!).sort()
    }
    expect(await filesOf({ zero: 1 })).toEqual(SHARDED)
    expect(await filesOf({ zero: 3 })).toEqual(SHARDED)
    expect(await filesOf({})).toEqual(FILES_OF_A_WHOLE)
    expect(await filesOf({ zero: 3 }, false)).toEqual(FILES_OF_A_WHOLE)
    expect(await filesOf({}, true)).toEqual(SHARDED)
  })

  test('write equal shares of what both hold, each number once', async () => {
    const [path] = await asRanks(2, async (world) =>
      (await start(world)).save(directory, {}, { sharded: true }),
    )
    const { shards, tensors } = JSON.parse(readFileSync(join(path!, 'index.json'), 'utf8'))
    const floats = [0, 0]
    for (const { stretches } of tensors)
      for (const { shard, length, count } of stretches) floats[shard]! += length * count
    expect(shards).toHaveLength(2)
    const all = 3 * tinyModel().countParams()
    expect(floats).toEqual([Math.floor(all / 2), Math.ceil(all / 2)])
  })
})

describe.each([
  ['sharded', true],
  ['whole', false],
])('%s', (_, sharded) => {
  test.each([
    [2, 0, 1, 0],
    [1, 0, 2, 3],
    [2, 1, 3, 2],
  ] as const)(
    '%i ranks with zero %i, then %i with zero %i: as on one rank',
    async (ranks, zero, then, level) => {
      const [alone] = await asRanks(1, async (world) => {
        const ddp = await start(world)
        await train(world, ddp, 4)
        return (await ddp.evaluate([samples(0, 24)])).loss
      })
      const [saved] = await asRanks(ranks, async (world) => {
        const ddp = await start(world, { zero })
        await train(world, ddp, 2)
        await ddp.save(directory, { at: 2 }, { sharded })
        return shaOf(ddp)
      })
      const [after] = await asRanks(then, async (world) => {
        const ddp = await start(world, { zero: level })
        expect(await ddp.load(directory)).toEqual({ at: 2 })
        expect(await shaOf(ddp)).toBe(saved)
        await train(world, ddp, 2)
        return (await ddp.evaluate([samples(0, 24)])).loss
      })
      expect(Math.abs(after! - alone!)).toBeLessThan(1e-5)
    },
  )
})

test('in the background: the state at the call, complete without a further call; keepLast and best count', async () => {
  await asRanks(2, async (world) => {
    const ddp = await start(world, { zero: 2 })
    for (const value of [0.9, 0.7]) {
      await train(world, ddp, 1)
      const metric = { name: 'accuracy', value, mode: 'max' } as const
      await ddp.save(directory, { value }, { background: true, keepLast: 1, metric })
    }
    const sha = await shaOf(ddp)
    await train(world, ddp, 1)
    const names = () => readdirSync(directory).sort()
    await vi.waitFor(() => expect(names()).toEqual(['step-00000001', 'step-00000002']), 20_000)
    expect(await ddp.load(directory, { best: 'accuracy' })).toEqual({ value: 0.9 })
    expect(await ddp.load(directory)).toEqual({ value: 0.7 })
    expect(await shaOf(ddp)).toBe(sha)
  })
})

test('compressors’ memory goes along', async () => {
  const run = (from: 'memory' | 'checkpoint') =>
    asRanks(2, async (world) => {
      const ddp = await start(world, { compression: 'onebit' })
      if (from === 'checkpoint') await ddp.load(directory)
      await train(world, ddp, 3 - ddp.stepCount)
      if (from === 'memory') await ddp.save(directory, {}, { sharded: true })
      await train(world, ddp, 3)
      return ddp.paramsSha256()
    })
  expect(await run('memory')).toEqual(await run('checkpoint'))
})

describe('damage', () => {
  const ways: [string, RegExp, (path: string) => void][] = [
    [
      'a missing shard',
      /ENOENT.*shard-00001-of-00002.safetensors/,
      (path) => rmSync(join(path, SHARDED[3]!)),
    ],
    [
      'a truncated shard',
      /shard-00001-of-00002.safetensors has SHA-256/,
      (path) => truncateSync(join(path, SHARDED[3]!), 100),
    ],
    [
      'a shard of another save',
      /shard-00001-of-00002.safetensors has SHA-256/,
      (path) => cpSync(join(path, '..', 'step-00000001', SHARDED[3]!), join(path, SHARDED[3]!)),
    ],
    ['a missing index', /ENOENT.*index.json/, (path) => rmSync(join(path, 'index.json'))],
    ['no checksums', /ENOENT.*SHA256SUMS/, (path) => rmSync(join(path, 'SHA256SUMS'))],
  ]
  test.each(ways)('%s: named, and the one before is taken by all', async (_, what, damage) => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => error.mockRestore())
    const shas = await asRanks(2, async (world) => {
      const ddp = await start(world, { zero: 3 })
      await train(world, ddp, 1)
      await ddp.save(directory, { at: 1 })
      const sha = await shaOf(ddp)
      await train(world, ddp, 1)
      const path = await ddp.save(directory, { at: 2 })
      if (world.rank === 0) damage(path)
      await world.barrier()
      expect(await ddp.load(directory)).toEqual({ at: 1 })
      expect(ddp.stepCount).toBe(1)
      return [sha, await shaOf(ddp)]
    })
    for (const [saved, loaded] of shas) expect(loaded).toBe(saved)
    expect(error.mock.calls).toHaveLength(1)
    expect(error.mock.calls[0]![0]).toMatch(
      /^lockstep: checkpoint \S+step-00000002 is damaged .*: resuming from \S+step-00000001$/,
    )
    expect(error.mock.calls[0]![0]).toMatch(what)
    expect((await readCheckpoint(directory))!.step).toBe(1)
  })

  test('is an error on every rank where it was the only one', async () => {
    const [path] = await asRanks(2, async (world) => (await start(world, { zero: 3 })).save(directory))
    truncateSync(join(path!, SHARDED[2]!), 100)
    for (const { name, message } of await failures(2, async (world) =>
      (await start(world)).load(directory),
    )) {
      expect(name).toBe('LockstepError')
      expect(message).toMatch(
        /^cannot resume: checkpoint \S+ is damaged \(rank 0: .*shard-00000-of-00002.*; delete what is damaged/,
      )
      expect(message).not.toContain('\n')
    }
  })
})

test('a shard that cannot be written is an error on every rank, naming the rank; nothing is left', async () => {
  onTestFinished(() => void vi.restoreAllMocks())
  const errors = await failures(2, async (world) => {
    const ddp = await start(world, { zero: 2 })
    // In the way of rank 1's shard as soon as there is a folder for it.
    const looking = vi.spyOn(await import('../../../src/runtime/checkpoint/folders.js'), 'isFolder')
    looking.mockImplementation(async (path) => {
      writeFileSync(join(path, SHARDED[3]!), '')
      return true
    })
    await ddp.save(directory)
  })
  for (const { message } of errors)
    expect(message).toMatch(/^rank 1: cannot write checkpoint \S+step-00000000: EEXIST.*; give a directory/)
  expect(readdirSync(directory)).toEqual([])
})

test('another model is refused on every rank, saying which tensors differ', async () => {
  await asRanks(2, async (world) => (await start(world, { zero: 3 })).save(directory))
  const errors = await failures(2, async (world) => {
    const other = sequential({ layers: [layers.dense({ inputShape: [6], units: 8, name: 'hidden' })] })
    await (await world.ddp(other, { loss, optimizer: adam(0.01) })).load(directory)
  })
  for (const { message } of errors)
    expect(message).toContain('2 not expected (scores/kernel [8,3], scores/bias [3])')
})
