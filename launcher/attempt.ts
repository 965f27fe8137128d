/**
 * The ranks of one node in one attempt, from start to when the last is gone. It refuses to decide anything: it says
 * when one has failed, and stops them when told to. It leaves nothing running.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Meeting, type Plan, rankEnvironment } from './plan.js'
import { type MetricsListener, type RankListener, RankProcess } from './rank-process.js'
import type { RankState } from './rank-state.js'
import type { Reaper } from './reaper.js'
import type { StopReason } from './rendezvous/messages.js'
import { hasFailed } from './root-cause.js'

/** Between SIGTERM and SIGKILL after a failure. With what comes before it, that ends the job within two seconds. */
const GRACE_MS = 1000
/** How long the others may take to fail for the same reason, or to give away that they failed only in consequence. */
const SETTLE_MS = 200
/** How much longer, if all that failed so far say that somebody else did first. */
const SETTLE_LONGER_MS = 300

export interface AttemptOptions {
  readonly plan: Plan
  readonly meeting: Meeting
  readonly env: NodeJS.ProcessEnv
  readonly reaper: Reaper
  readonly listener: RankListener
  /** Undefined where the plan has none. */
  readonly metrics?: MetricsListener | undefined
  /** Between SIGTERM and SIGKILL when ranks are asked to end. */
  readonly stopMs: number
}

export class Attempt {
  /** Resolves when a rank has failed. */
  readonly failing: Promise<RankState>
  /** How every rank was when a failure stopped all; without one, how it ended. */
  readonly ended: Promise<readonly RankState[]>
  readonly #ranks: readonly RankProcess[]
  readonly #stopMs: number
  readonly #allGone: Promise<unknown>
  #stopping: StopReason | undefined
  #statesAtFailure: readonly RankState[] | undefined

  constructor({ plan, meeting, env, reaper, listener, metrics, stopMs }: AttemptOptions) {
    this.#stopMs = stopMs
    const ranks: RankProcess[] = []
    const watch = () =>
      reaper.watch(ranks.flatMap(({ running, pid }) => (running && pid !== undefined ? [pid] : [])))
    for (let localRank = 0; localRank < plan.localWorldSize; localRank++) {
      const { firstRank, nodes } = meeting.assignment
      const environment = rankEnvironment(plan, localRank, meeting, env)
      const rank = new RankProcess(
        { rank: firstRank + localRank, localRank, isAmongNodes: nodes > 1 },
        plan.nodeArguments,
        environment,
        listener,
        metrics,
        plan.timeoutMs,
      )
      ranks.push(rank)
      watch()
      rank.ended.then(watch)
    }
    this.#ranks = ranks
    this.#allGone = Promise.all(ranks.map(({ ended }) => ended))
    this.failing = new Promise((resolve) => {
      for (const rank of ranks) rank.failing.then(() => resolve(rank.state()))
    })
    this.ended = this.#allGone.then(() => this.#statesAtFailure ?? this.#ranks.map((rank) => rank.state()))
  }

  /** @param timedOut some rank has waited in vain, so it is worth while to ask what the others do. */
  async stop(reason: StopReason, timedOut: boolean): Promise<void> {
    if (this.#stopping === reason || this.#stopping === 'failure') return
    this.#stopping = reason
    if (reason === 'failure') {
      await this.#settle()
      if (timedOut) await Promise.all(this.#idle().map((rank) => rank.examine()))
      this.#statesAtFailure = this.#ranks.map((rank) => rank.state())
    }
    this.#signal('SIGTERM')
    await Promise.race([this.#allGone, delay(reason === 'failure' ? GRACE_MS : this.#stopMs)])
    this.kill()
  }

  /** At once. */
  kill(): void {
    this.#signal('SIGKILL')
  }

  #signal(signal: NodeJS.Signals): void {
    for (const rank of this.#ranks) if (rank.running) rank.signal(signal)
  }

  /** Those that run as if nothing had happened. */
  #idle(): RankProcess[] {
    return this.#ranks.filter((rank) => rank.running && rank.state().failure === undefined)
  }

  /** Waits until it can be told who failed first. */
  async #settle(): Promise<void> {
    await Promise.race([this.#allGone, delay(SETTLE_MS)])
    const states = this.#ranks.map((rank) => rank.state())
    const isExplained = states.some((s) => s.code === 0 || (hasFailed(s) && !s.failure?.secondary))
    if (!isExplained) await Promise.race([this.#allGone, delay(SETTLE_LONGER_MS)])
  }
}
