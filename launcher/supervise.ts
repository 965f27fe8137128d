/**
 * Starts the ranks of a plan and stays until the last one is gone. The first failure, or a signal to the launcher,
 * stops all. It refuses to leave anything running.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Output } from './output.js'
import { type Meeting, type Plan, rankEnvironment } from './plan.js'
import { RankProcess } from './rank-process.js'
import { startReaper } from './reaper.js'
import { findRootCause, hasFailed, signalExitCode } from './root-cause.js'

/** Between SIGTERM and SIGKILL. With what comes before it, a rank's death ends the job within two seconds. */
const GRACE_MS = 1000
/** How long the others may take to fail for the same reason, or to give away that they failed only in consequence. */
const SETTLE_MS = 200
/** How much longer, if all that failed so far say that somebody else did first. */
const SETTLE_LONGER_MS = 300

/** The signals that end a job, and when they come. */
export interface Interruptions {
  readonly first: Promise<NodeJS.Signals>
  /** Somebody is in a hurry. */
  readonly second: Promise<unknown>
}

/** @returns the exit code of the job: 0, that of the root cause, or 128 + the signal that ended it. */
export async function supervise(
  plan: Plan,
  meeting: Meeting,
  env: NodeJS.ProcessEnv,
  output: Output,
  interruptions: Interruptions,
): Promise<number> {
  const reaper = await startReaper()
  const ranks: RankProcess[] = []
  const watch = () =>
    reaper.watch(ranks.flatMap(({ running, pid }) => (running && pid !== undefined ? [pid] : [])))
  for (let rank = 0; rank < plan.worldSize; rank++) {
    const process = new RankProcess(
      rank,
      plan.nodeArguments,
      rankEnvironment(plan, rank, meeting, env),
      output,
    )
    ranks.push(process)
    watch()
    process.ended.then(watch)
  }
  const allEnded = Promise.all(ranks.map(({ ended }) => ended))

  const outcome = await Promise.race([
    interruptions.first,
    firstFailure(ranks),
    allEnded.then(() => 'done' as const),
  ])
  if (outcome === 'failed') await Promise.race([settle(ranks), interruptions.first])
  const states = ranks.map((rank) => rank.state())
  const hurry = outcome === 'failed' || outcome === 'done' ? interruptions.first : interruptions.second
  await stop(ranks, allEnded, hurry)
  reaper.close()

  if (states.some(hasFailed) && (outcome === 'failed' || outcome === 'done')) {
    const verdict = findRootCause(states)
    output.say(verdict.report)
    return verdict.exitCode
  }
  if (outcome === 'done' || outcome === 'failed') return 0
  output.say(`ddp-launch: ${outcome}, all ranks were stopped`)
  return signalExitCode(outcome)
}

function firstFailure(ranks: readonly RankProcess[]): Promise<'failed'> {
  return new Promise((resolve) => {
    for (const rank of ranks) rank.ended.then(() => rank.failed && resolve('failed'))
  })
}

/** Waits until it can be told who failed first. */
async function settle(ranks: readonly RankProcess[]): Promise<void> {
  const allEnded = Promise.all(ranks.map(({ ended }) => ended))
  await Promise.race([allEnded, delay(SETTLE_MS)])
  const states = ranks.map((rank) => rank.state())
  const isExplained = states.some((s) => s.code === 0 || (hasFailed(s) && !s.failure?.secondary))
  if (!isExplained) await Promise.race([allEnded, delay(SETTLE_LONGER_MS)])
}

/** SIGTERM to all, and SIGKILL to whoever has not ended in time, or at once when somebody is in a hurry. */
async function stop(
  ranks: readonly RankProcess[],
  allEnded: Promise<unknown>,
  hurry: Promise<unknown>,
): Promise<void> {
  for (const rank of ranks) if (rank.running) rank.signal('SIGTERM')
  await Promise.race([allEnded, delay(GRACE_MS), hurry])
  for (const rank of ranks) if (rank.running) rank.signal('SIGKILL')
  await allEnded
}
