/** Profiles from made-up events: which calls count, how they add up, what tables and traces say. */
import { expect, test } from 'vitest'
import {
  callsOf,
  chromeTrace,
  formatProfile,
  type Profile,
  type SessionEvent,
} from '../../src/observe/profile.js'

const node = (ts: number, dur: number, name: string, op_name: string): SessionEvent => ({
  cat: 'Node',
  name: `${name}_kernel_time`,
  ts,
  dur,
  args: { op_name },
})
const run = (ts: number, dur: number): SessionEvent => ({ cat: 'Session', name: 'model_run', ts, dur })

/** Three runs; onnxruntime writes a run after the nodes in it. */
const events = [
  { cat: 'Session', name: 'session_initialization', ts: 0, dur: 900 },
  ...[1000, 2000, 3000].flatMap((at) => [
    node(at + 10, 400, 'conv/a/Conv2D#1', 'Conv'),
    node(at + 410, 100, 'conv/a (backward)/Conv2DBackpropFilter#2', 'MatMul'),
    node(at + 520, 20, 'Mean#3_new_reshape', 'Reshape'),
    node(at + 540, 10, 'ReorderInput_token_7', 'ReorderInput'),
    run(at, 600),
  ]),
]

test('the calls of the passes that are asked for, on the clock of the passes', () => {
  // The second run ended at 50 ms on the clock and 2.6 ms on the session's; the third's end was noticed later.
  const calls = callsOf(events, [
    { run: 1, end: 50 },
    { run: 2, end: 51.5 },
  ])
  expect(calls).toHaveLength(8)
  expect(calls[0]).toEqual({
    layer: 'conv/a',
    backward: false,
    kernel: 'Conv2D',
    operator: 'Conv',
    start: expect.closeTo(49.41, 9),
    ms: 0.4,
  })
  expect(calls[1]).toMatchObject({ layer: 'conv/a', backward: true, kernel: 'Conv2DBackpropFilter' })
  expect(calls[2]).toMatchObject({ layer: undefined, backward: false, kernel: 'Mean', operator: 'Reshape' })
  expect(calls[3]).toMatchObject({ layer: undefined, kernel: '(onnxruntime)' })
})

test('runs that the profile has no room for are left out', () => {
  expect(callsOf(events, [{ run: 7, end: 1 }])).toEqual([])
})

const profile: Profile = {
  rank: 2,
  steps: [3, 4],
  spans: [
    { name: 'forward and backward', start: 1000, ms: 4 },
    { name: 'optimizer', start: 1004, ms: 1 },
    { name: 'forward and backward', start: 1005, ms: 4 },
    { name: 'optimizer', start: 1009, ms: 1 },
  ],
  calls: callsOf(events, [
    { run: 0, end: 1004 },
    { run: 1, end: 1009 },
  ]),
}

test('the tables', () => {
  expect(formatProfile(profile)).toEqual([
    'steps 3 to 4 of rank 2: 5.000 ms each',
    '',
    'part of a step        ms/step  share',
    'forward and backward  4.000    80.0 %',
    'optimizer             1.000    20.0 %',
    '(operators alone)     0.530    10.6 %',
    '',
    'kernel of TensorFlow.js  operator      ms/step  share  calls',
    'Conv2D                   Conv          0.400    8.0 %  1',
    'Conv2DBackpropFilter     MatMul        0.100    2.0 %  1',
    'Mean                     Reshape       0.020    0.4 %  1',
    '(onnxruntime)            ReorderInput  0.010    0.2 %  1',
    '',
    'layer                ms/step  share   calls  of it backward',
    'conv/a               0.500    10.0 %  2      0.100',
    '(outside of layers)  0.030    0.6 %   2      0.000',
  ])
})

test('only the twenty largest operators have a row, the others share one', () => {
  const calls = Array.from({ length: 25 }, (_, i) => ({ ...profile.calls[0]!, kernel: `K${i}`, ms: 30 - i }))
  const lines = formatProfile({ ...profile, calls })
  expect(lines.filter((line) => /^K\d/.test(line))).toHaveLength(20)
  expect(lines.find((line) => line.startsWith('5 more'))).toMatch(/^5 more +20\.000 +400\.0 % +2\.5$/)
})

test('the trace: every call and span in µs, on threads that have names', () => {
  const { traceEvents } = chromeTrace(profile) as { traceEvents: Record<string, unknown>[] }
  expect(traceEvents).toHaveLength(3 + 4 + 8)
  expect(traceEvents.every(({ pid }) => pid === 2)).toBe(true)
  expect(traceEvents[3]).toMatchObject({
    ph: 'X',
    name: 'forward and backward',
    ts: 1_000_000,
    dur: 4000,
    tid: 0,
  })
  expect(traceEvents[7]).toMatchObject({
    ph: 'X',
    name: 'Conv',
    tid: 1,
    args: { layer: 'conv/a', kernel: 'Conv2D' },
  })
})
