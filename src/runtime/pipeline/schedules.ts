/**
 * Pipeline schedules as plain lists: what a rank computes and transfers, in order. Pure functions of numbers, which move
 * nothing. A model is cut into `ranks × stagesPerRank` stages, of which rank r has those whose number is r modulo `ranks`.
 *
 *   gpipe        all forward passes, then all backward ones (Huang et al. 2019)
 *   1f1b         as soon as the last stage has a micro-batch, one forward and one backward in turns: at most `ranks`
 *                micro-batches are between the two (Narayanan et al. 2019, "PipeDream"; 2021 with a flush)
 *   interleaved  1f1b with several stages on each rank: a shorter bubble for more transfers (Narayanan et al. 2021)
 *
 * With equally long stages the idle share of a step is (p - 1) / (m + p - 1), and (p - 1) / (v m + p - 1) interleaved,
 * for p ranks, m micro-batches and v stages on each rank.
 */
import { LockstepError } from '../../errors.js'

export type ScheduleName = 'gpipe' | '1f1b' | 'interleaved'

export interface Shape {
  readonly ranks: number
  /** 1 unless interleaved. */
  readonly stagesPerRank: number
  readonly microBatches: number
}

export interface Compute {
  readonly kind: 'forward' | 'backward'
  readonly stage: number
  readonly microBatch: number
}

/** `stage` is the one on this rank: it sends its activation on and the gradient of its input back. */
export interface Transfer {
  readonly kind: 'sendActivation' | 'recvActivation' | 'sendGradient' | 'recvGradient'
  readonly stage: number
  readonly microBatch: number
}

export type Action = Compute | Transfer

const computations: Readonly<Record<ScheduleName, (shape: Shape, rank: number) => Compute[]>> = {
  gpipe: ({ microBatches }, rank) => [
    ...count(microBatches).map((m) => forward(rank, m)),
    ...count(microBatches).map((m) => backward(rank, m)),
  ],
  '1f1b': ({ ranks, microBatches }, rank) =>
    alternate(
      count(microBatches).map((m) => forward(rank, m)),
      count(microBatches).map((m) => backward(rank, m)),
      ranks - rank - 1,
    ),
  interleaved: ({ ranks, stagesPerRank, microBatches }, rank) => {
    // Micro-batches go through in groups of `ranks`, each through all stages of a rank before the next group begins.
    const turns = count(microBatches * stagesPerRank).map((turn) => ({
      place: Math.floor(turn / ranks) % stagesPerRank,
      microBatch: Math.floor(turn / (ranks * stagesPerRank)) * ranks + (turn % ranks),
    }))
    return alternate(
      turns.map(({ place, microBatch }) => forward(place * ranks + rank, microBatch)),
      turns.map(({ place, microBatch }) => backward((stagesPerRank - 1 - place) * ranks + rank, microBatch)),
      2 * (ranks - rank - 1) + (stagesPerRank - 1) * ranks,
    )
  },
}

/** The names that there are. */
export const SCHEDULES = Object.keys(computations) as readonly ScheduleName[]

/** @throws LockstepError for a schedule that there is not, or micro-batches that it cannot order. */
export function checkSchedule(name: string, { ranks, stagesPerRank, microBatches }: Shape): void {
  if (!Object.hasOwn(computations, name))
    throw new LockstepError(`unknown schedule ${JSON.stringify(name)}: expected ${SCHEDULES.join(', ')}`)
  if (!Number.isInteger(microBatches) || microBatches < 1)
    throw new LockstepError(`microBatches is ${microBatches}: expected a whole number of at least 1`)
  if (!Number.isInteger(stagesPerRank) || stagesPerRank < 1)
    throw new LockstepError(`stagesPerRank is ${stagesPerRank}: expected a whole number of at least 1`)
  if (name !== 'interleaved' && stagesPerRank !== 1)
    throw new LockstepError(
      `stagesPerRank is ${stagesPerRank} with schedule ${name}: expected 1, or schedule interleaved`,
    )
  if (name !== 'interleaved') return
  if (ranks < 2)
    throw new LockstepError(
      'schedule interleaved was asked for on one rank: expected at least 2, or schedule 1f1b',
    )
  if (microBatches % ranks !== 0)
    throw new LockstepError(
      `schedule interleaved was given ${microBatches} micro-batches on ${ranks} ranks, ${microBatches} / ${ranks} = ` +
        `${+(microBatches / ranks).toFixed(2)}: expected a multiple of ${ranks}`,
    )
}

/** Of one of this rank's stages: how many micro-batches are between forward and backward pass at once. */
export function mostInFlight(actions: readonly Action[], stage: number): number {
  let [now, most] = [0, 0]
  for (const { kind, stage: at } of actions) {
    if (at !== stage) continue
    if (kind === 'forward') most = Math.max(most, ++now)
    if (kind === 'backward') now--
  }
  return most
}

/** What `rank` does in one step. A recv stands one computation early: it only begins there, and the next one awaits it. */
export function scheduleOf(name: ScheduleName, shape: Shape, rank: number): Action[] {
  const computing = computations[name](shape, rank)
  const last = shape.ranks * shape.stagesPerRank - 1
  const awaited = computing.map(({ kind, stage, microBatch }): Transfer[] => {
    if (kind === 'forward') return stage === 0 ? [] : [{ kind: 'recvActivation', stage, microBatch }]
    return stage === last ? [] : [{ kind: 'recvGradient', stage, microBatch }]
  })
  const made = computing.map(({ kind, stage, microBatch }): Transfer[] => {
    if (kind === 'forward') return stage === last ? [] : [{ kind: 'sendActivation', stage, microBatch }]
    return stage === 0 ? [] : [{ kind: 'sendGradient', stage, microBatch }]
  })
  return [
    ...(awaited[0] ?? []),
    ...computing.flatMap((action, i) => [...(awaited[i + 1] ?? []), action, ...made[i]!]),
  ]
}

/** `warmup` forward passes, then one of each in turns while there are forward ones, then the other backward ones. */
function alternate(forwards: readonly Compute[], backwards: readonly Compute[], warmup: number): Compute[] {
  const early = Math.min(warmup, forwards.length)
  return [
    ...forwards.slice(0, early),
    ...forwards.slice(early).flatMap((action, i) => [action, backwards[i]!]),
    ...backwards.slice(forwards.length - early),
  ]
}

const forward = (stage: number, microBatch: number): Compute => ({ kind: 'forward', stage, microBatch })
const backward = (stage: number, microBatch: number): Compute => ({ kind: 'backward', stage, microBatch })
const count = (length: number) => Array.from({ length }, (_, i) => i)
