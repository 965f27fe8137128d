/** A pipeline on paper: every rank's actions in order, with transfers that take no time and passes that take `1 / v`. */
import {
  type Action,
  type ScheduleName,
  type Shape,
  scheduleOf,
} from '../../../src/runtime/pipeline/schedules.js'

export interface Simulated {
  readonly time: number
  /** Idle share of all ranks' time. */
  readonly bubble: number
  /** Of each rank, the most micro-batches that were between their forward and their backward pass in one stage. */
  readonly inFlight: readonly number[]
}

/** @throws Error when no rank can go on: a deadlock. */
export function simulate(name: ScheduleName, shape: Shape): Simulated {
  const ranks = Array.from({ length: shape.ranks }, (_, rank) => scheduleOf(name, shape, rank))
  const duration = 1 / shape.stagesPerRank
  const done = new Map<string, number>()
  const clock = ranks.map(() => 0)
  const at = ranks.map(() => 0)
  const needs = ({ kind, stage, microBatch }: Action, last: number): string[] => {
    if (kind === 'forward') return stage === 0 ? [] : [`forward ${stage - 1} ${microBatch}`]
    if (kind !== 'backward') return []
    return [
      `forward ${stage} ${microBatch}`,
      ...(stage === last ? [] : [`backward ${stage + 1} ${microBatch}`]),
    ]
  }
  for (let moved = true; moved; ) {
    moved = false
    ranks.forEach((actions, rank) => {
      for (; at[rank]! < actions.length; at[rank]!++) {
        const action = actions[at[rank]!]!
        const needed = needs(action, shape.ranks * shape.stagesPerRank - 1)
        if (!needed.every((key) => done.has(key))) return
        moved = true
        if (action.kind !== 'forward' && action.kind !== 'backward') continue
        const start = Math.max(clock[rank]!, ...needed.map((key) => done.get(key)!))
        clock[rank] = start + duration
        done.set(`${action.kind} ${action.stage} ${action.microBatch}`, clock[rank]!)
      }
    })
  }
  if (ranks.some((actions, rank) => at[rank]! < actions.length)) throw new Error(`${name} is stuck at ${at}`)
  const time = Math.max(...clock)
  return { time, bubble: 1 - (2 * shape.microBatches) / time, inFlight: ranks.map(mostInFlight) }
}

function mostInFlight(actions: readonly Action[]): number {
  let [now, most] = [0, 0]
  for (const { kind } of actions) {
    if (kind === 'forward') most = Math.max(most, ++now)
    if (kind === 'backward') now--
  }
  return most
}
