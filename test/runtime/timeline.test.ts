/** What several ranks record while they train, and what rank 0 writes of it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
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

test('steps, segments, exchanges and checkpoints of all ranks, on one clock', async () => {
  const file = join(directory, 'timeline.json')
  const before = Date.now()
  await Promise.all(
    memoryTransports(2).map(async (transport, rank) => {
      // As if on two hosts: clocks are compared.
      const world = new World(await trace(file, inThread(transport), rank), rank, 1)
      const ddp = await world.ddp(tinyModel(), {
        ...{ loss: 'softmaxCrossEntropy', optimizer: sgd(0.1), overlap: 2 },
      })
      for (let step = 0; step < 3; step++) {
        const { x, y } = samples(4 * rank, 4 * rank + 4)
        await ddp.step(x, y)
      }
      await ddp.save(join(directory, 'checkpoints'))
      await world.collectives.group([0, 1]).allReduce(new Float32Array(1000))
      await world.close()
    }),
  )
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: Drawn[] }
  for (const pid of [0, 1]) {
    const own = traceEvents.filter((event) => event.pid === pid && event.ph === 'X')
    for (const { ts, dur } of own) {
      expect(ts).toBeGreaterThan((before - 100) * 1000)
      expect(ts + dur).toBeLessThan((Date.now() + 100) * 1000)
    }
    const steps = own.filter(({ args }) => args.step !== undefined)
    expect(steps.map(({ name }) => name)).toEqual(['step 1', 'step 2', 'step 3'])
    const within = ({ ts, dur }: Drawn) =>
      own.filter((event) => event.ts >= ts - 1 && event.ts + event.dur <= ts + dur + 1)
    const names = new Set(within(steps[2]!).map(({ name }) => name))
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
