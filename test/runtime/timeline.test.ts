/** What several ranks record while they train, and what rank 0 writes of it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
import { cnn } from '../../src/models/cnn.js'
import { sgd } from '../../src/runtime/optimizers/index.js'
import { timelineOf, trace } from '../../src/runtime/timeline.js'
import { World } from '../../src/runtime/world.js'
import { samples, tinyModel } from './ranks.js'

const directory = mkdtempSync(join(tmpdir(), 'lockstep-timeline-'))
afterAll(() => rmSync(directory, { recursive: true }))
vi.spyOn(console, 'error').mockImplementation(() => {})

interface Drawn {
  readonly ph: string
  readonly pid: number
  readonly cat: string
  readonly name: string
  readonly ts: number
  readonly dur: number
  readonly args: Record<string, number>
}

/** What the timeline holds of each of two ranks that have run `body`. */
async function recorded(name: string, body: (world: World) => Promise<void>): Promise<Drawn[][]> {
  const file = join(directory, name)
  await Promise.all(
    memoryTransports(2).map(async (transport, rank) => {
      // As if on two hosts: clocks are compared.
      const world = new World(await trace(file, inThread(transport), rank), rank, 1)
      await body(world)
      await world.close()
    }),
  )
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: Drawn[] }
  return [0, 1].map((rank) => traceEvents.filter(({ pid, ph }) => pid === rank && ph === 'X'))
}

test('steps, segments, exchanges and checkpoints of all ranks, on one clock', async () => {
  const before = Date.now()
  const ranks = await recorded('ddp.json', async (world) => {
    const ddp = await world.ddp(tinyModel(), {
      ...{ loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), overlap: 2, bucketBytes: 64 },
    })
    for (let step = 0; step < 3; step++) {
      const { x, y } = samples(4 * world.rank, 4 * world.rank + 4)
      await ddp.step(x, y)
    }
    await ddp.save(join(directory, 'checkpoints'))
    await world.collectives.group([0, 1]).allReduce(new Float32Array(1000))
  })
  for (const own of ranks) {
    for (const { ts, dur } of own) {
      expect(ts).toBeGreaterThan((before - 100) * 1000)
      expect(ts + dur).toBeLessThan((Date.now() + 100) * 1000)
    }
    const steps = own.filter(({ args }) => args.step !== undefined)
    expect(steps.map(({ name }) => name)).toEqual(['step 1', 'step 2', 'step 3'])
    const { ts: start, dur: length } = steps[2]!
    const within = own.filter(({ ts, dur }) => ts >= start - 1 && ts + dur <= start + length + 1)
    const names = within.map(({ name }) => name)
    for (const name of [
      'forward and backward',
      'segment 1',
      'segment 2',
      'allReduce',
      'exchange',
      'optimizer',
    ])
      expect(names).toContain(name)
    expect(own).toContainEqual(expect.objectContaining({ name: 'allReduce', args: { bytes: 4000 } }))
    expect(own).toContainEqual(expect.objectContaining({ cat: 'checkpoint', name: 'save' }))
    expect(own).toContainEqual(
      expect.objectContaining({ cat: 'pass', name: expect.stringMatching(/^compile /) }),
    )
  }
})

test('compression, around the collectives of its own', async () => {
  const ranks = await recorded('compression.json', async (world) => {
    const ddp = await world.ddp(cnn({ seed: 1 }), {
      ...{ loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), compression: 'int8' },
    })
    await ddp.step(
      { data: new Float32Array(784), shape: [1, 28, 28, 1] },
      { data: Int32Array.of(1), shape: [1] },
    )
  })
  for (const own of ranks) {
    const { ts, dur } = own.find(({ cat, name }) => cat === 'compression' && name === 'int8, bucket 1')!
    const inside = own.filter(
      (event) => event.cat === 'communication' && event.ts >= ts && event.ts <= ts + dur,
    )
    expect(inside.length).toBeGreaterThan(0)
  }
})

test("a pipeline's passes, one for each micro-batch", async () => {
  const ranks = await recorded('pipeline.json', async (world) => {
    const { x, y } = samples(0, 6)
    const pipeline = await world.pipeline(tinyModel(), {
      ...{ loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), microBatches: 2 },
    })
    await pipeline.step(x, y)
  })
  for (const [stage, own] of ranks.entries()) {
    const passes = own.filter(({ cat }) => cat === 'pass')
    expect(passes.map(({ name }) => name).sort()).toEqual([
      'backward 0',
      'backward 1',
      'forward 0',
      'forward 1',
    ])
    for (const { args } of passes) expect(args.stage).toBe(stage)
    expect(own).toContainEqual(expect.objectContaining({ name: 'forward and backward' }))
  }
})

test('when another rank has left, rank 0 writes what it has itself', async () => {
  const file = join(directory, 'alone.json')
  const links = await Promise.all(memoryTransports(2).map((transport) => trace(file, inThread(transport))))
  await Promise.all(links.map((each) => each.barrier()))
  await links[1]!.close()
  await timelineOf(links[0]!)!.finish()
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: Drawn[] }
  expect(traceEvents).toContainEqual(expect.objectContaining({ pid: 0, name: 'barrier' }))
  expect(console.error).toHaveBeenCalledWith(expect.stringContaining('the timeline lacks ranks from 1 on: '))
  await links[0]!.close().catch(() => {})
})

test('without a file for it nothing is recorded', async () => {
  const [transport] = memoryTransports(1)
  const links = inThread(transport!)
  expect(await trace(undefined, links)).toBe(links)
  expect(timelineOf(links)).toBeUndefined()
  await links.close()
})

test('a file that cannot be written is an error before anything is trained', async () => {
  const links = inThread(memoryTransports(1)[0]!)
  const file = join(directory, 'missing', 'timeline.json')
  await expect(trace(file, links)).rejects.toThrow(
    /^cannot write the timeline .*missing.*; give a file in a directory/,
  )
  await links.close()
})
