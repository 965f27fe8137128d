/** Profiles of real steps: every layer is named, files are left as said, and nothing happens unless asked for. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { singleRank } from '../../src/collectives/single.js'
import { adam } from '../../src/index.js'
import type { DdpOptions } from '../../src/runtime/ddp-options.js'
import { World } from '../../src/runtime/world.js'
import { asRanks, samples, tinyModel } from './ranks.js'

let directory: string
let printed: string[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lockstep-profile-'))
  printed = []
  vi.spyOn(console, 'error').mockImplementation((line: string) => void printed.push(line))
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

const options = (profile?: DdpOptions['profile']): DdpOptions => ({
  loss: 'softmaxCrossEntropy',
  optimizer: adam(0.01),
  ...(profile !== undefined && { profile }),
})

async function train(world: World, profile: DdpOptions['profile'], steps: number) {
  const ddp = await world.ddp(tinyModel(), options(profile))
  for (let i = 0; i < steps; i++) {
    const { x, y } = samples(0, 8)
    await ddp.accumulate(x, y)
    await ddp.step(x, y)
  }
}

interface Trace {
  readonly traceEvents: {
    readonly ph: string
    readonly name: string
    readonly ts: number
    readonly dur: number
    readonly tid: number
    readonly args: { readonly layer: string; readonly backward: boolean }
  }[]
}
const readTrace = (name: string) => JSON.parse(readFileSync(join(directory, name), 'utf8')) as Trace

test('rank 0 prints where the time goes, every rank leaves a trace', async () => {
  await asRanks(2, (world) => train(world, { directory, from: 2, to: 4 }, 6))
  const names = readdirSync(directory).sort()
  // Both ranks are trainers of one process here, so the second is numbered.
  expect(names).toEqual([
    expect.stringMatching(/^trace-rank-0(-\d+)?\.json$/),
    expect.stringMatching(/^trace-rank-1-\d+\.json$/),
  ])
  expect(printed).toHaveLength(1)
  expect(printed[0]).toMatch(/^lockstep profile: steps 2 to 4 of rank 0: \d+\.\d{3} ms each$/m)
  for (const row of [
    'forward and backward',
    'exchange',
    'optimizer',
    'between steps (data)',
    'hidden',
    'scores',
  ]) {
    expect(printed[0]).toMatch(new RegExp(`^${row.replace(/[()]/g, '\\$&')} +\\d`, 'm'))
  }

  const { traceEvents } = readTrace(names[0]!)
  const spans = traceEvents.filter(({ ph, tid }) => ph === 'X' && tid === 0)
  const calls = traceEvents.filter(({ ph, tid }) => ph === 'X' && tid === 1)
  // Three steps of two passes each, and every operator lies within one of them.
  const passes = spans.filter(({ name }) => name === 'forward and backward')
  expect(passes).toHaveLength(6)
  const within = calls.filter(({ ts, dur }) =>
    passes.some((pass) => ts >= pass.ts - 1 && ts + dur <= pass.ts + pass.dur + 1),
  )
  expect(within).toHaveLength(calls.length)
  for (const layer of ['hidden', 'scores']) {
    const own = calls.filter(({ args }) => args.layer === layer)
    expect(own.some(({ args }) => args.backward)).toBe(true)
    expect(own.some(({ args }) => !args.backward)).toBe(true)
  }
  spans.slice(1).forEach(({ ts }, i) => {
    expect(ts).toBeCloseTo(spans[i]!.ts + spans[i]!.dur, -1)
  })
})

test('LOCKSTEP_PROFILE asks for one, of a job that ends early too', async () => {
  vi.stubEnv('LOCKSTEP_PROFILE', join(directory, 'made'))
  await asRanks(1, (world) => train(world, undefined, 5))
  expect(printed[0]).toContain('steps 3 to 5 of rank 0')
  await asRanks(1, (world) => train(world, undefined, 2))
  expect(printed[1]).toBe(
    'lockstep profile: the job ended after 2 steps, before step 3 where its profile begins',
  )
})

test('an eager model has a profile without operators', async () => {
  const world = new World(singleRank(), 0, 1)
  const ddp = await world.ddp(tinyModel(), { ...options({ directory, from: 1, to: 1 }), engine: 'tfjs' })
  const { x, y } = samples(0, 8)
  await ddp.step(x, y)
  expect(printed[0]).toContain('Operators are not told apart')
  await world.close()
})

test('nothing is measured or written unless asked for', async () => {
  await asRanks(1, (world) => train(world, undefined, 3))
  expect(printed).toEqual([])
  expect(readdirSync(directory)).toEqual([])
})

test('a wrong use is one line', async () => {
  writeFileSync(join(directory, 'file'), '')
  const world = new World(singleRank(), 0, 1)
  const ddp = (profile: DdpOptions['profile']) => world.ddp(tinyModel(), options(profile))
  await expect(ddp(join(directory, 'file'))).rejects.toThrow(
    /cannot write a profile to .*file: .*; give a directory/,
  )
  await expect(ddp({ directory, from: 0 })).rejects.toThrow('profile of steps 0 to 12: expected')
  await expect(ddp({ directory, from: 5, to: 4 })).rejects.toThrow('profile of steps 5 to 4')
  await expect(ddp({ directory, to: 5000 })).rejects.toThrow('at most 100 steps')
  await world.close()
})

test('what compiling costs is said once, and again when every batch has a shape of its own', async () => {
  const lines: string[] = []
  const world = new World(singleRank(), 0, 1, (line) => lines.push(line))
  const ddp = await world.ddp(tinyModel(), options())
  for (let size = 1; size <= 10; size++) {
    const { x, y } = samples(0, size)
    await ddp.step(x, y)
    await ddp.step(x, y)
  }
  expect(lines).toEqual([
    expect.stringMatching(
      /^the training step was compiled in \d+\.\d s: traced in \d+\.\d s, built in \d+\.\d s$/,
    ),
    expect.stringMatching(
      /^the training step has been compiled for 9 batch shapes, .*\(x float32\[7,6\] y int32\[7\]; .*\[9\]; …\): .*dropLast/,
    ),
  ])
  await world.close()
})
