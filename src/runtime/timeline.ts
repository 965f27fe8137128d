/**
 * What this rank does and when, kept in memory until rank 0 gathers all ranks' and writes one trace. Where nobody asked for
 * it there is no Timeline, and nothing is recorded. What a trace looks like is observe's part.
 */
import { writeFileSync } from 'node:fs'
import type { Communicator, Numbers } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'
import type { StepPart } from '../observe/metrics.js'
import {
  clockOffset,
  type Lane,
  type Ping,
  type RankTimeline,
  type TimelineEvent,
  timelineTrace,
} from '../observe/timeline.js'
import type { StepClock } from './step-clock.js'

/** Of one rank, a few hundred bytes each; what comes later is not kept. */
const MOST_EVENTS = 200_000
/** Round trips to rank 0 for the offset of a clock; the fastest counts. */
const PINGS = 16

/** Calls that are worth a bar. */
const CALLS: ReadonlySet<PropertyKey> = new Set<keyof Communicator>([
  ...(['allReduce', 'reduce', 'reduceScatter', 'broadcast', 'allGather', 'gather', 'scatter'] as const),
  ...(['allToAll', 'send', 'recv', 'barrier'] as const),
])

const timelines = new WeakMap<Communicator, Timeline>()

/** Where what these links' rank does is recorded; undefined: nowhere. */
export function timelineOf(links: Communicator): Timeline | undefined {
  return timelines.get(links)
}

/**
 * The links to use from now on: traced where there is a file for the timeline, else as they are. All ranks must call it
 * together.
 * @param node this rank's host among the hosts: on rank 0's it reads the same clock
 * @throws LockstepError on rank 0 when the file cannot be written.
 */
export async function trace(file: string | undefined, links: Communicator, node = 0): Promise<Communicator> {
  return file === undefined ? links : (await Timeline.start(file, links, node)).traced(links)
}

/** Time by the clock of this host, ms since the Unix epoch, to the µs: the same for all processes of the host. */
const now = () => performance.timeOrigin + performance.now()

export class Timeline {
  private readonly events: TimelineEvent[] = []
  private clockOffset = 0
  private missed = 0

  static async start(file: string, links: Communicator, node: number): Promise<Timeline> {
    const timeline = new Timeline(file, links)
    if (links.rank === 0) timeline.write('')
    timeline.clockOffset = await measureOffset(links, node)
    return timeline
  }

  private constructor(
    private readonly file: string,
    /** As they were, for what the timeline itself has to say. */
    private readonly links: Communicator,
  ) {}

  /** The same links, and groups of them, whose calls are recorded from when they are made to when they are done. */
  traced<L extends Communicator>(links: L): L {
    const traced = new Proxy(links, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target)
        if (typeof value !== 'function') return value
        const call = (...args: unknown[]): unknown => Reflect.apply(value, target, args)
        if (key === 'group')
          return (...args: Parameters<Communicator['group']>) => this.traced(target.group(...args))
        if (!CALLS.has(key)) return call
        return (...args: unknown[]) =>
          this.during('communication', String(key), () => call(...args) as Promise<unknown>, sizeOf(args))
      },
    })
    timelines.set(traced, this)
    return traced
  }

  /** Records how long `work` takes; a failure ends it too. */
  async during<T>(
    lane: Lane,
    name: string,
    work: () => Promise<T>,
    args: TimelineEvent['args'] = {},
  ): Promise<T> {
    const start = now()
    try {
      return await work()
    } finally {
      this.add({ lane, name, start, ms: now() - start, args })
    }
  }

  /** Records something that has just ended. */
  ended(lane: Lane, name: string, ms: number): void {
    this.add({ lane, name, start: now() - ms, ms })
  }

  /** Records the parts of a trainer's steps. */
  steps(): StepLane {
    return new StepLane((event) => this.add(event))
  }

  /** Gathers what all ranks have recorded; rank 0 writes it, rank by rank. All ranks must call it together. */
  async finish(): Promise<void> {
    const { events, clockOffset, file } = this
    const { rank } = this.links
    if (this.missed > 0) {
      console.error(
        `lockstep: the timeline holds the first ${MOST_EVENTS} events of rank ${rank}, not the ${this.missed} after them`,
      )
    }
    let ranks = 0
    const append = (timeline: RankTimeline) => {
      const lines = timelineTrace([timeline]).traceEvents.map((event) => JSON.stringify(event))
      if (ranks++ === 0) this.write('{"traceEvents":[\n')
      this.write(`${ranks > 1 ? ',\n' : ''}${lines.join(',\n')}`, 'a')
    }
    const own: RankTimeline = { rank, clockOffset, events }
    if (rank === 0) append(own)
    try {
      for await (const other of this.exchange(own)) append(other)
    } catch (error) {
      // Why ranks no longer meet is said by whoever has found out; what rank 0 has shows what went before.
      if (rank === 0)
        console.error(`lockstep: the timeline lacks ranks from ${ranks} on: ${(error as Error).message}`)
    }
    if (rank > 0) return
    this.write('\n]}\n', 'a')
    console.error(`lockstep: what all ranks did, for ui.perfetto.dev or chrome://tracing: ${file}`)
  }

  /** On rank 0 the others', on all others nothing: they send theirs. */
  private async *exchange(own: RankTimeline): AsyncGenerator<RankTimeline> {
    const { links } = this
    if (links.size === 1) return
    const text = new TextEncoder().encode(links.rank === 0 ? '' : JSON.stringify(own))
    const lengths = await links.allGather(Int32Array.of(text.length))
    if (links.rank > 0) return links.send(text, 0)
    for (let from = 1; from < links.size; from++) {
      const other = new Uint8Array(lengths[from]!)
      await links.recv(other, from)
      yield JSON.parse(new TextDecoder().decode(other)) as RankTimeline
    }
  }

  private add(event: TimelineEvent): void {
    if (this.events.length < MOST_EVENTS) this.events.push(event)
    else this.missed++
  }

  private write(text: string, flag: 'w' | 'a' = 'w'): void {
    try {
      writeFileSync(this.file, text, { flag })
    } catch (cause) {
      throw new LockstepError(
        `cannot write the timeline ${this.file}: ${(cause as Error).message}; give a file in a directory that can be written to`,
        { cause },
      )
    }
  }
}

/** The parts of one trainer's steps, without gaps, each step around its own; segments of a pass beside them. */
export class StepLane implements StepClock {
  private last: number | undefined
  private began: number | undefined
  private segmentEnd: number | undefined
  private segment = 0
  private step = 1

  constructor(private readonly add: (event: TimelineEvent) => void) {}

  /** What was done since the last mark was `part`. */
  mark(part: StepPart): void {
    const { last } = this
    this.last = now()
    this.segmentEnd = undefined
    this.segment = 0
    if (last === undefined) return
    // Whatever the script does between steps is not of the step.
    if (part === 'between steps (data)') this.began ??= this.last
    else this.began ??= last
    this.add({ lane: 'step', name: part, start: last, ms: this.last - last })
  }

  /** A segment of the pass is done: the first since the last mark, or the one after the last segment. */
  endSegment(gradients: number): void {
    const start = this.segmentEnd ?? this.last
    const end = now()
    if (start !== undefined) {
      const args = { gradients }
      this.add({ lane: 'pass', name: `segment ${++this.segment}`, start, ms: end - start, args })
    }
    this.segmentEnd = end
  }

  endStep(): void {
    this.mark('rest')
    if (this.began !== undefined) {
      const { began, step } = this
      this.add({ lane: 'step', name: `step ${step}`, start: began, ms: this.last! - began, args: { step } })
    }
    this.began = undefined
    this.step++
  }
}

/** Of a call's array. A barrier has none. */
function sizeOf([data]: readonly unknown[]): Record<string, number> {
  return ArrayBuffer.isView(data) ? { bytes: (data as Numbers).byteLength } : {}
}

/** What must be added to this rank's clock for rank 0's, which answers ranks of other hosts one by one. */
async function measureOffset(links: Communicator, node: number): Promise<number> {
  if (links.size === 1) return 0
  const nodes = await links.allGather(Int32Array.of(node))
  const message = Float64Array.of(0)
  const pings: Ping[] = []
  for (let other = 1; other < links.size; other++) {
    if (nodes[other] === nodes[0]) continue
    for (let i = 0; i < PINGS; i++) {
      if (links.rank === 0) {
        await links.recv(message, other)
        message[0] = now()
        await links.send(message, other)
      } else if (links.rank === other) {
        const sent = now()
        await links.send(message, 0)
        await links.recv(message, 0)
        pings.push({ sent, remote: message[0]!, received: now() })
      }
    }
  }
  return pings.length === 0 ? 0 : clockOffset(pings)
}
