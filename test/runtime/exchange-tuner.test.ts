/** How gradients are best exchanged is measured in the first steps; ranks agree, and what brings nothing is left alone. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { singleRank } from '../../src/collectives/single.js'
import { ExchangeTuner, type Plan, TUNING_STEPS } from '../../src/runtime/exchange-tuner.js'
import { timelineOf, trace } from '../../src/runtime/timeline.js'
import { GROUPS } from '../collectives/groups.js'

const MIB = 2 ** 20

/** Tunes ranks whose steps take as long as `costs` says; the plans they end with, what was said, and how many steps were tried. */
async function tune(
  costs: readonly ((plan: Plan) => number)[],
  segments: number | undefined,
  sizes: readonly number[],
) {
  const links = await GROUPS[0]!.connect(costs.length)
  const said: string[] = []
  const tuners = links.map((link) => new ExchangeTuner(link, (line) => said.push(line), segments, sizes))
  let steps = 0
  while (said.length === 0 && steps <= TUNING_STEPS) {
    await Promise.all(tuners.map((tuner, rank) => tuner.took(costs[rank]!(tuner.plan))))
    steps++
  }
  await Promise.all(links.map((link) => link.close()))
  return { plans: tuners.map(({ plan }) => plan), said, steps }
}

const bySegments = (ms: Record<number, number>) => (plan: Plan) => ms[plan.segments]!

test('what is fastest on the slowest rank is kept, and said', async () => {
  const costs = [bySegments({ 1: 100, 2: 60, 4: 90 }), bySegments({ 1: 100, 2: 80, 4: 70 })]
  const { plans, said } = await tune(costs, undefined, [4 * MIB])
  expect(plans).toEqual([0, 1].map(() => ({ segments: 2, bucketBytes: 4 * MIB })))
  expect(said[0]).toBe(
    'a step by segments of the backward pass: 1: 100.0 ms, 2: 80.0 ms, 4: 90.0 ms; gradients are exchanged during the ' +
      'backward pass, in 2 segments and buckets of 4 MiB: 20 % less time',
  )
})

test('then buckets of other sizes are tried, within twenty steps in all', async () => {
  const cost = ({ segments, bucketBytes }: Plan) =>
    (segments === 4 ? 50 : 100) - (bucketBytes === MIB ? 10 : 0)
  const { plans, said, steps } = await tune([cost], undefined, [4 * MIB, MIB, 16 * MIB])
  expect(plans).toEqual([{ segments: 4, bucketBytes: MIB }])
  expect(said[0]).toContain(
    '; by bytes of a bucket: 1 MiB: 40.0 ms, 16 MiB: 50.0 ms; gradients are exchanged during',
  )
  expect(said[0]).toContain('4 segments and buckets of 1 MiB: 60 % less time')
  expect(steps).toBe(TUNING_STEPS)
  expect(steps).toBeLessThanOrEqual(20)
})

test('no gain, no overlap: gradients are exchanged after the pass, and buckets stay as they are', async () => {
  const cost = ({ segments, bucketBytes }: Plan) =>
    (segments === 1 ? 100 : 98) + (bucketBytes === MIB ? -50 : 0)
  const { plans, said } = await tune([cost], undefined, [4 * MIB, MIB])
  expect(plans).toEqual([{ segments: 1, bucketBytes: 4 * MIB }])
  expect(said[0]).toContain('gradients are exchanged after the backward pass: 0 % less time')
})

test('overlap by hand: only buckets are tried; both by hand: nothing is', async () => {
  const cost = ({ bucketBytes }: Plan) => bucketBytes / MIB
  const { plans, steps } = await tune([cost], 2, [4 * MIB, MIB])
  expect(plans).toEqual([{ segments: 2, bucketBytes: MIB }])
  expect(steps).toBe(8)
  const [link] = await GROUPS[0]!.connect(1)
  const fixed = new ExchangeTuner(link!, () => expect.unreachable(), 2, [MIB])
  for (let step = 0; step < 30; step++) await fixed.took(1)
  expect(fixed.plan).toEqual({ segments: 2, bucketBytes: MIB })
})

test('what was tried, what it took and what was chosen is in the timeline', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-tuner-'))
  const said = vi.spyOn(console, 'error').mockImplementation(() => {})
  try {
    const file = join(directory, 'timeline.json')
    const links = await trace(file, singleRank())
    const tuner = new ExchangeTuner(links, () => {}, undefined, [4 * MIB])
    for (let step = 0; step < 12; step++) await tuner.took(tuner.plan.segments === 2 ? 50 : 100)
    await timelineOf(links)!.finish()
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as {
      traceEvents: { name: string; ts: number; dur: number; cat?: string }[]
    }
    const events = traceEvents.filter(({ cat }) => cat === 'step')
    expect(events.map(({ name, dur }) => [name, Math.round(dur)])).toEqual([
      ['tried after the backward pass: 100.0 ms a step', 400_000],
      ['tried during the backward pass, in 2 segments and buckets of 4 MiB: 50.0 ms a step', 200_000],
      ['tried during the backward pass, in 4 segments and buckets of 4 MiB: 100.0 ms a step', 400_000],
      ['chosen: during the backward pass, in 2 segments and buckets of 4 MiB, 50 % less time', 0],
    ])
  } finally {
    said.mockRestore()
    rmSync(directory, { recursive: true })
  }
})
