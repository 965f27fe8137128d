/**
 * What all ranks of a job did and when, on one clock: events in, a Chrome trace out (for ui.perfetto.dev or
 * chrome://tracing). Pure: it measures nothing, sends nothing and opens no file.
 */

/** Something that a rank did between two moments. */
export interface TimelineEvent {
  /** What kind of thing it is: events of one kind are drawn together. */
  readonly lane: Lane
  readonly name: string
  /** ms since the Unix epoch, by the rank's own clock. */
  readonly start: number
  readonly ms: number
  readonly args?: Readonly<Record<string, string | number>>
}

export interface RankTimeline {
  readonly rank: number
  /** What must be added to this rank's clock for rank 0's, in ms. */
  readonly clockOffset: number
  readonly events: readonly TimelineEvent[]
}

/** From top to bottom. */
export const LANES = ['step', 'pass', 'communication', 'compression', 'checkpoint'] as const
export type Lane = (typeof LANES)[number]

/** A lane's first thread id; events that go on at once take the ids from there on. */
const LANE_IDS = 100

/** A question to another rank: when it was sent and answered by this clock, and the other's clock meanwhile; in ms. */
export interface Ping {
  readonly sent: number
  readonly remote: number
  readonly received: number
}

/**
 * What must be added to this clock for the other's, by Cristian's algorithm (1989): the answer was given half way through
 * the fastest round trip, and is wrong by no more than half of it.
 */
export function clockOffset(pings: readonly Ping[]): number {
  const trip = ({ sent, received }: Ping) => received - sent
  const fastest = pings.reduce((best, ping) => (trip(ping) < trip(best) ? ping : best))
  return fastest.remote - (fastest.sent + fastest.received) / 2
}

/** The Chrome trace: a process for each rank, a thread for each lane, more where things of one kind overlap. */
export function timelineTrace(ranks: readonly RankTimeline[]): { readonly traceEvents: readonly object[] } {
  return { traceEvents: ranks.flatMap(traceOf) }
}

function traceOf({ rank, clockOffset, events }: RankTimeline): object[] {
  const label = (name: string, tid: number, args: object) => ({ ph: 'M', pid: rank, tid, name, args })
  return [
    label('process_name', 0, { name: `rank ${rank}` }),
    label('process_sort_index', 0, { sort_index: rank }),
    ...LANES.flatMap((lane, i) => {
      const own = events.filter((event) => event.lane === lane)
      const rows = rowsOf(own)
      const id = (row: number) => i * LANE_IDS + row
      const height = rows.reduce((most, row) => Math.max(most, row + 1), 0)
      const names = Array.from({ length: height }, (_, row) => [
        label('thread_name', id(row), { name: row === 0 ? lane : `${lane} ${row + 1}` }),
        label('thread_sort_index', id(row), { sort_index: id(row) }),
      ])
      const drawn = own.map(({ name, start, ms, args = {} }, n) => ({
        ...{ ph: 'X', pid: rank, tid: id(rows[n]!), name, cat: lane },
        ...{ ts: (start + clockOffset) * 1000, dur: ms * 1000, args },
      }))
      return [...names.flat(), ...drawn]
    }),
  ]
}

/**
 * For each event the first row where it fits: one thread of a Chrome trace can show events one after the other, or one
 * within another, but not two that overlap otherwise.
 */
export function rowsOf(events: readonly Pick<TimelineEvent, 'start' | 'ms'>[]): number[] {
  const order = events.map((_, i) => i)
  // What encloses others comes before them.
  order.sort((a, b) => events[a]!.start - events[b]!.start || events[b]!.ms - events[a]!.ms)
  const rows: number[] = []
  /** Of each row the ends of what is going on, the innermost last. */
  const open: number[][] = []
  for (const i of order) {
    const { start, ms } = events[i]!
    const row = open.findIndex((ends) => {
      while (ends.length > 0 && ends.at(-1)! <= start) ends.pop()
      return ends.length === 0 || ends.at(-1)! >= start + ms
    })
    rows[i] = row < 0 ? open.length : row
    if (row < 0) open.push([])
    open[rows[i]!]!.push(start + ms)
  }
  return rows
}
