/** The order of passes, what is in flight, and idle time against the published formulas. */
import { describe, expect, test } from 'vitest'
import {
  type Action,
  checkSchedule,
  mostInFlight,
  SCHEDULES,
  type ScheduleName,
  scheduleOf,
} from '../../../src/runtime/pipeline/schedules.js'
import { simulate } from './simulate.js'

const shapeOf = (ranks: number, microBatches: number, stagesPerRank = 1) => ({
  ranks,
  microBatches,
  stagesPerRank,
})

/** F0 B0 …, with the stage behind it where a rank has several. */
const passes = (actions: readonly Action[], stages = false) =>
  actions
    .filter(({ kind }) => kind === 'forward' || kind === 'backward')
    .map(
      ({ kind, stage, microBatch }) => `${kind[0]!.toUpperCase()}${microBatch}${stages ? `@${stage}` : ''}`,
    )
    .join(' ')

test('in flight: all with gpipe, as many as stages follow and its own with 1f1b', () => {
  const most = (schedule: ScheduleName) =>
    [0, 1, 2, 3].map((rank) => mostInFlight(scheduleOf(schedule, shapeOf(4, 6), rank), rank))
  expect(most('gpipe')).toEqual([6, 6, 6, 6])
  expect(most('1f1b')).toEqual([4, 3, 2, 1])
})

describe('order', () => {
  test('gpipe: forwards, then backwards', () => {
    expect(passes(scheduleOf('gpipe', shapeOf(2, 3), 0))).toBe('F0 F1 F2 B0 B1 B2')
  })

  test('1f1b: the figure of four ranks', () => {
    const lists = [0, 1, 2, 3].map((rank) => passes(scheduleOf('1f1b', shapeOf(4, 5), rank)))
    expect(lists).toEqual([
      'F0 F1 F2 F3 B0 F4 B1 B2 B3 B4',
      'F0 F1 F2 B0 F3 B1 F4 B2 B3 B4',
      'F0 F1 B0 F2 B1 F3 B2 F4 B3 B4',
      'F0 B0 F1 B1 F2 B2 F3 B3 F4 B4',
    ])
  })

  test('interleaved: two ranks with two stages each', () => {
    const lists = [0, 1].map((rank) => passes(scheduleOf('interleaved', shapeOf(2, 4, 2), rank), true))
    expect(lists).toEqual([
      'F0@0 F1@0 F0@2 F1@2 F2@0 B0@2 F3@0 B1@2 F2@2 B0@0 F3@2 B1@0 B2@2 B3@2 B2@0 B3@0',
      'F0@1 F1@1 F0@3 B0@3 F1@3 B1@3 F2@1 B0@1 F3@1 B1@1 F2@3 B2@3 F3@3 B3@3 B2@1 B3@1',
    ])
  })

  test('a recv begins one computation early, a send follows its own', () => {
    expect(
      scheduleOf('1f1b', shapeOf(2, 2), 0).map(({ kind, microBatch }) => `${kind} ${microBatch}`),
    ).toEqual([
      'forward 0',
      'sendActivation 0',
      'recvGradient 0',
      'forward 1',
      'sendActivation 1',
      'recvGradient 1',
      'backward 0',
      'backward 1',
    ])
  })

  test.each(SCHEDULES)('%s: what is sent over a border is received in that order', (name) => {
    const shape = shapeOf(4, 8, name === 'interleaved' ? 3 : 1)
    const all = [0, 1, 2, 3].flatMap((rank) => scheduleOf(name, shape, rank))
    const batches = (kind: string, stage: number) =>
      all
        .filter((action) => action.kind === kind && action.stage === stage)
        .map(({ microBatch }) => microBatch)
    for (let stage = 0; stage < 4 * shape.stagesPerRank - 1; stage++) {
      expect(batches('recvActivation', stage + 1)).toEqual(batches('sendActivation', stage))
      expect(batches('recvGradient', stage)).toEqual(batches('sendGradient', stage + 1))
      expect(batches('sendActivation', stage)).toHaveLength(8)
    }
  })
})

const shapes = [1, 2, 3, 4, 8].flatMap((p) => [1, 2, 4, 16].map((k) => [p, p * k] as const))

describe('on unit time', () => {
  test.each(['gpipe', '1f1b'] as ScheduleName[])('%s: bubble (p - 1) / (m + p - 1)', (name) => {
    for (const [p, m] of [...shapes, [4, 3], [4, 1], [3, 7]] as const)
      expect(simulate(name, shapeOf(p, m)).bubble).toBeCloseTo((p - 1) / (m + p - 1), 12)
  })

  test.each([1, 2, 3, 4])('interleaved, %d stages on each rank: bubble (p - 1) / (v m + p - 1)', (v) => {
    for (const [p, m] of shapes.filter(([p]) => p > 1))
      expect(simulate('interleaved', shapeOf(p, m, v)).bubble).toBeCloseTo((p - 1) / (v * m + p - 1), 12)
  })

  test('in flight: all with gpipe, p - rank with 1f1b', () => {
    expect(simulate('gpipe', shapeOf(4, 9)).inFlight).toEqual([9, 9, 9, 9])
    expect(simulate('1f1b', shapeOf(4, 9)).inFlight).toEqual([4, 3, 2, 1])
    expect(simulate('1f1b', shapeOf(4, 2)).inFlight).toEqual([2, 2, 2, 1])
  })
})

describe('refused', () => {
  test.each([
    ['zigzag', shapeOf(2, 4), 'unknown schedule "zigzag": expected gpipe, 1f1b, interleaved'],
    ['1f1b', shapeOf(2, 0), 'microBatches is 0: expected a whole number of at least 1'],
    [
      'gpipe',
      shapeOf(2, 4, 2),
      'stagesPerRank is 2 with schedule gpipe: expected 1, or schedule interleaved',
    ],
    [
      'interleaved',
      shapeOf(4, 6, 2),
      'schedule interleaved was given 6 micro-batches on 4 ranks, 6 / 4 = 1.5: expected a multiple of 4',
    ],
    [
      'interleaved',
      shapeOf(1, 6, 2),
      'schedule interleaved was asked for on one rank: expected at least 2, or schedule 1f1b',
    ],
  ] as const)('%s %j', (name, shape, message) => {
    expect(() => checkSchedule(name, shape)).toThrow(message)
  })
})
