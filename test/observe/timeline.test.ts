/** Timelines from made-up events: whose clock is right, what is drawn in which row, and what the trace says. */
import { expect, test } from 'vitest'
import { clockOffset, rowsOf, type TimelineEvent, timelineTrace } from '../../src/observe/timeline.js'

test('the offset of a clock is what the fastest round trip says', () => {
  // The other clock is 1000 ms ahead; the second answer came back slowly, which looks like 20 ms more.
  const pings = [
    { sent: 0, remote: 1002, received: 4 },
    { sent: 10, remote: 1051, received: 51 },
    { sent: 60, remote: 1061, received: 62 },
  ]
  expect(clockOffset(pings)).toBe(1000)
  expect(clockOffset(pings.slice(1, 2))).toBe(1020.5)
})

test('what encloses or follows shares a row, what overlaps does not', () => {
  const events = [
    { start: 0, ms: 2 },
    { start: 2, ms: 3 }, // after the first
    { start: 0, ms: 10 }, // around both
    { start: 8, ms: 4 }, // begins in that one, and ends after it
    { start: 9, ms: 10 }, // and this one after both
    { start: 12, ms: 1 },
  ]
  expect(rowsOf(events)).toEqual([0, 0, 0, 1, 2, 0])
  expect(rowsOf([])).toEqual([])
})

test('a long job has a trace too', () => {
  const events = Array.from({ length: 200_000 }, (_, i) => ({
    lane: 'step' as const,
    name: 'rest',
    start: i,
    ms: 1,
  }))
  expect(timelineTrace([{ rank: 0, clockOffset: 0, events }]).traceEvents.length).toBe(200_000 + 4)
})

test('a trace has a process for each rank, rows for each lane, and the clock of rank 0', () => {
  const event = (lane: TimelineEvent['lane'], name: string, start: number, ms: number): TimelineEvent => {
    return { lane, name, start, ms, args: { bytes: 64 } }
  }
  const { traceEvents } = timelineTrace([
    { rank: 0, clockOffset: 0, events: [event('step', 'optimizer', 5, 1)] },
    {
      ...{ rank: 1, clockOffset: -1000 },
      events: [event('communication', 'allReduce', 1005, 2), event('communication', 'send', 1006, 2)],
    },
  ])
  const drawn = traceEvents.filter((each) => (each as { ph: string }).ph === 'X')
  expect(drawn).toEqual([
    { ph: 'X', pid: 0, tid: 0, name: 'optimizer', cat: 'step', ts: 5000, dur: 1000, args: { bytes: 64 } },
    expect.objectContaining({ pid: 1, tid: 200, name: 'allReduce', ts: 5000, dur: 2000 }),
    expect.objectContaining({ pid: 1, tid: 201, name: 'send', ts: 6000 }),
  ])
  for (const [pid, tid, name] of [
    [0, 0, 'step'],
    [1, 200, 'communication'],
    [1, 201, 'communication 2'],
  ])
    expect(traceEvents).toContainEqual({ ph: 'M', pid, tid, name: 'thread_name', args: { name } })
})
