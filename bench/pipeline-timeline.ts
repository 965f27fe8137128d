/** Passes of a pipeline, read from a timeline's trace, and what share of the ranks' time they leave idle. */
import { readFileSync } from 'node:fs'

export interface Pass {
  readonly rank: number
  readonly kind: string
  readonly stage: number
  readonly microBatch: number
  /** ms */
  readonly start: number
  readonly ms: number
}

interface TraceEvent {
  readonly cat?: string
  readonly pid: number
  readonly name: string
  readonly ts: number
  readonly dur: number
  readonly args: { readonly stage: number; readonly microBatch: number }
}

/** Of each rank in order of time. */
export function passesOf(file: string, ranks: number): Pass[][] {
  const { traceEvents } = JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: TraceEvent[] }
  const passes = traceEvents
    .filter(({ cat }) => cat === 'pass')
    .map(({ pid, name, ts, dur, args }) => ({
      ...{ rank: pid, kind: name.split(' ')[0]!, stage: args.stage, microBatch: args.microBatch },
      ...{ start: ts / 1000, ms: dur / 1000 },
    }))
  return Array.from({ length: ranks }, (_, rank) =>
    passes.filter((pass) => pass.rank === rank).sort((a, b) => a.start - b.start),
  )
}

/** The idle share of one step, from the first pass' begin to the last one's end. */
export function idleShare(step: readonly (readonly Pass[])[]): number {
  const all = step.flat()
  const span =
    Math.max(...all.map(({ start, ms }) => start + ms)) - Math.min(...all.map(({ start }) => start))
  return 1 - all.reduce((sum, { ms }) => sum + ms, 0) / (step.length * span)
}

/** The same step, each pass as long as it was, had all begun as soon as their rank was free and what they need was made. */
export function withoutDelays(step: readonly (readonly Pass[])[]): Pass[][] {
  const last = Math.max(...step.flat().map(({ stage }) => stage))
  const ends = new Map<string, number>()
  const done: Pass[][] = step.map(() => [])
  const needs = ({ kind, stage, microBatch }: Pass) => {
    if (kind === 'forward') return stage === 0 ? undefined : `forward ${stage - 1} ${microBatch}`
    return stage === last ? undefined : `backward ${stage + 1} ${microBatch}`
  }
  for (let moved = true; moved; ) {
    moved = false
    for (const [rank, passes] of step.entries()) {
      for (let at = done[rank]!.length; at < passes.length; at++) {
        const pass = passes[at]!
        const needed = needs(pass)
        const ready = needed === undefined ? 0 : ends.get(needed)
        if (ready === undefined) break
        const before = done[rank]!.at(-1)
        const start = Math.max(ready, before === undefined ? 0 : before.start + before.ms)
        done[rank]!.push({ ...pass, start })
        ends.set(`${pass.kind} ${pass.stage} ${pass.microBatch}`, start + pass.ms)
        moved = true
      }
    }
  }
  return done
}
