/**
 * This node's part in a job: does what the coordinator orders, reports what becomes of it, and passes on that somebody
 * wants it to end. It refuses to decide anything, unless the coordinator is gone: then it stops all.
 */
import { Attempt, type AttemptOptions } from './attempt.js'
import type { Interruptions } from './interruptions.js'
import { forTravel, type RankState } from './rank-state.js'
import type { Assignment, Order, Report } from './rendezvous/messages.js'
import { findRootCause } from './root-cause.js'

/** Whoever has sent a signal hears of it by then. */
const QUIET_MS = 1500

export interface NodeOptions extends Omit<AttemptOptions, 'meeting' | 'listener'> {
  readonly report: (report: Report) => void
  readonly say: (text: string) => void
  /** What an attempt needs besides the assignment: made anew for each. */
  readonly prepare: (assignment: Assignment) => Prepared
}

export interface Prepared extends Pick<AttemptOptions, 'meeting' | 'listener'> {
  /** Told how the ranks have ended; returns what the coordinator is told. */
  readonly conclude: (states: readonly RankState[]) => Promise<readonly RankState[]>
}

export class LocalNode {
  /** Resolves with the exit code of the job, when nothing of it runs here any more. */
  readonly over: Promise<number>
  readonly #options: NodeOptions
  #attempt: Attempt | undefined
  #number = -1
  #finish!: (exitCode: number) => void

  constructor(options: NodeOptions) {
    this.#options = options
    this.over = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  take(order: Order): void {
    if (order.op === 'start') void this.#run(order.assignment)
    else if (order.op === 'stop' && order.attempt === this.#number)
      void this.#attempt?.stop(order.reason, order.timedOut)
    else if (order.op === 'say') this.#options.say(order.text)
    else if (order.op === 'end') {
      if (order.report !== '') this.#options.say(order.report)
      this.#finish(order.exitCode)
    }
  }

  /** The first signal asks the ranks of all nodes to end; a second one ends those of this node at once. */
  async heed({ first, second }: Interruptions): Promise<void> {
    const signal = await first
    this.#options.report({ op: 'leave', signal })
    const patience = setTimeout(() => {
      const seconds = this.#options.stopMs / 1000
      this.#options.say(
        `ddp-launch: ${signal}, the ranks have ${seconds} s to save and end (--stop-timeout); a second signal ends them now`,
      )
    }, QUIET_MS)
    await Promise.race([second, this.over])
    clearTimeout(patience)
    this.#attempt?.kill()
  }

  /** The coordinator cannot be heard. Resolves when no rank runs here any more. */
  async retreat(): Promise<void> {
    await this.#attempt?.stop('failure', false)
    await this.#attempt?.ended
  }

  /** The coordinator is gone. @param reason completes "the connection with the launcher at X". */
  abandon(coordinator: string, reason: string): void {
    const lost = { hostName: 'at the endpoint', address: coordinator, reason }
    this.#options.say(findRootCause([], [lost]).report)
    this.#finish(1)
  }

  async #run(assignment: Assignment): Promise<void> {
    const { report, prepare } = this.#options
    const { conclude, ...prepared } = prepare(assignment)
    const attempt = new Attempt({ ...this.#options, ...prepared })
    this.#attempt = attempt
    this.#number = assignment.attempt
    attempt.failing.then(({ failure }) => {
      report({ op: 'failing', attempt: assignment.attempt, timedOut: failure?.timedOut === true })
    })
    const states = forTravel(await conclude(await attempt.ended))
    report({ op: 'ended', attempt: assignment.attempt, now: Date.now(), states })
  }
}
