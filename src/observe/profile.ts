/**
 * Where the time of training steps goes: onnxruntime's profile and the spans of a step, added up and written as tables
 * and as a Chrome trace. Pure: it measures nothing and opens no file.
 */
import { formatTable } from './table.js'

/** An event of onnxruntime's profile; times in µs since its session began. */
export interface SessionEvent {
  readonly cat: string
  readonly name: string
  readonly ts: number
  readonly dur: number
  readonly args?: { readonly op_name?: string }
}

/** One call of an operator; times in ms since the Unix epoch. */
export interface Call {
  /** Undefined outside of layers. */
  readonly layer: string | undefined
  readonly backward: boolean
  /** The TensorFlow.js kernel that it is a part of. */
  readonly kernel: string
  /** The ONNX operator that ran. */
  readonly operator: string
  readonly start: number
  readonly ms: number
}

/** What a rank did between two moments; times in ms since the Unix epoch. */
export interface Span {
  readonly name: string
  readonly start: number
  readonly ms: number
}

export interface Profile {
  readonly rank: number
  /** The first and the last step that were measured. */
  readonly steps: readonly [number, number]
  /** Without gaps or overlaps. */
  readonly spans: readonly Span[]
  readonly calls: readonly Call[]
}

/** A pass of a step: the number of its run in the session, and when it ended (ms since the Unix epoch). */
export interface Pass {
  readonly run: number
  readonly end: number
}

/** The operators that ran in `passes`, in order of time. */
export function callsOf(events: readonly SessionEvent[], passes: readonly Pass[]): Call[] {
  const runs = events.filter(({ name }) => name === 'model_run').toSorted((a, b) => a.ts - b.ts)
  const measured = passes.flatMap(({ run, end }) => (runs[run] === undefined ? [] : [{ ...runs[run], end }]))
  // The session's clock has another origin: a run ended just before its pass did.
  const origin = Math.min(...measured.map(({ ts, dur, end }) => end - (ts + dur) / 1000))
  const nodes = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'))
  return measured.flatMap((run) =>
    nodes
      .filter(({ ts }) => ts >= run.ts && ts < run.ts + run.dur)
      .map(({ name, ts, dur, args }) => ({
        ...placeOf(name.slice(0, -'_kernel_time'.length)),
        operator: args?.op_name ?? 'unknown',
        start: origin + ts / 1000,
        ms: dur / 1000,
      })),
  )
}

/** The compiler names nodes `layer/kernel#n` or `layer (backward)/kernel#n`; others are onnxruntime's own. */
function placeOf(name: string): Pick<Call, 'layer' | 'backward' | 'kernel'> {
  const found = /^(?:(.*?)( \(backward\))?\/)?([^/#]+)#\d+/s.exec(name)
  if (found === null) return { layer: undefined, backward: false, kernel: '(onnxruntime)' }
  return { layer: found[1], backward: found[2] !== undefined, kernel: found[3]! }
}

/** How many operators the table of them has; the smaller ones share a row. */
const TOP = 20

/** The tables, for people. */
export function formatProfile({ rank, steps, spans, calls }: Profile): string[] {
  const [first, last] = steps
  const count = last - first + 1
  const total = sum(spans.map(({ ms }) => ms)) / count
  const share = (ms: number) => [(ms / count).toFixed(3), `${((100 * ms) / count / total).toFixed(1)} %`]
  const row = (names: readonly string[], { ms, calls: n }: Total) => [
    ...names,
    ...share(ms),
    perStep(n, count),
  ]

  const operators = added(calls, ({ kernel, operator }) => `${kernel}\n${operator}`)
  const rest = operators.slice(TOP)
  const others = { ms: sum(rest.map(([, t]) => t.ms)), calls: sum(rest.map(([, t]) => t.calls)) }
  const layers = added(calls, ({ layer }) => layer ?? '(outside of layers)')
  const backward = new Map(
    added(
      calls.filter((call) => call.backward),
      ({ layer }) => layer ?? '',
    ),
  )
  return [
    `steps ${first} to ${last} of rank ${rank}: ${total.toFixed(3)} ms each`,
    '',
    ...formatTable([
      ['part of a step', 'ms/step', 'share'],
      ...added(spans, ({ name }) => name).map(([name, { ms }]) => [name, ...share(ms)]),
      ...(calls.length === 0 ? [] : [['(operators alone)', ...share(sum(calls.map(({ ms }) => ms)))]]),
    ]),
    ...(calls.length === 0 ? [] : ['', ...operatorTable(), '', ...layerTable()]),
  ]

  function operatorTable(): string[] {
    return formatTable([
      ['kernel of TensorFlow.js', 'operator', 'ms/step', 'share', 'calls'],
      ...operators.slice(0, TOP).map(([key, each]) => row(key.split('\n'), each)),
      ...(rest.length === 0 ? [] : [row([`${rest.length} more`, ''], others)]),
    ])
  }

  function layerTable(): string[] {
    return formatTable([
      ['layer', 'ms/step', 'share', 'calls', 'of it backward'],
      ...layers.map(([layer, each]) => [
        ...row([layer], each),
        ((backward.get(layer)?.ms ?? 0) / count).toFixed(3),
      ]),
    ])
  }
}

interface Total {
  readonly ms: number
  readonly calls: number
}

/** Sums by key, the largest first. */
function added<T extends { readonly ms: number }>(
  items: readonly T[],
  keyOf: (item: T) => string,
): [string, Total][] {
  const totals = new Map<string, Total>()
  for (const item of items) {
    const { ms, calls } = totals.get(keyOf(item)) ?? { ms: 0, calls: 0 }
    totals.set(keyOf(item), { ms: ms + item.ms, calls: calls + 1 })
  }
  return [...totals].sort(([, a], [, b]) => b.ms - a.ms)
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)

const perStep = (calls: number, steps: number): string => String(Math.round((10 * calls) / steps) / 10)

/**
 * In Chrome's trace event format, for chrome://tracing and ui.perfetto.dev: a process for the rank, a thread for the parts
 * of its steps and one for operators. Times are of the clock, so that traces of several ranks can be read side by side.
 */
export function chromeTrace({ rank, spans, calls }: Profile): object {
  const event = (tid: number, name: string, { start, ms }: { start: number; ms: number }, args = {}) => ({
    ph: 'X',
    pid: rank,
    tid,
    name,
    ts: start * 1000,
    dur: ms * 1000,
    args,
  })
  const label = (name: string, tid: number, value: string) => ({
    ph: 'M',
    pid: rank,
    tid,
    name,
    args: { name: value },
  })
  return {
    traceEvents: [
      label('process_name', 0, `rank ${rank}`),
      label('thread_name', 0, 'step'),
      label('thread_name', 1, 'operators'),
      ...spans.map((span) => event(0, span.name, span)),
      ...calls.map((call) => {
        const { layer, backward, kernel, operator } = call
        return event(1, operator, call, { layer: layer ?? '', kernel, backward })
      }),
    ],
  }
}
