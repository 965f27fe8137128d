/**
 * What the launchers of a job say to each other, as plain data: nodes report to the coordinator, which orders. It
 * refuses to know how it travels.
 */
import type { NodeCount } from '../options/forms.js'
import type { RankState } from '../rank-state.js'

/** What a node says of itself when it comes. */
export interface Hello {
  /** Which launcher: the same when it comes back. */
  readonly launcher: string
  /** Of the package. */
  readonly version: string
  readonly jobName: string | undefined
  readonly nodes: NodeCount
  readonly maxRestarts: number
  /** The number that its user wants it to have. */
  readonly nodeRank: number | undefined
  /** How many ranks it will start. */
  readonly ranks: number
  readonly hostName: string
  /** Where the other nodes reach its ranks. */
  readonly address: string
}

/** What a node is to do in one attempt. */
export interface Assignment {
  /** 0, 1, … over all that the job starts, for whatever reason. */
  readonly attempt: number
  /** How many of these were started for a failure. */
  readonly restarts: number
  readonly maxRestarts: number
  readonly runId: string
  readonly nodeRank: number
  readonly nodes: number
  readonly firstRank: number
  readonly worldSize: number
  /** This node's. */
  readonly address: string
  /** Where the ranks of this attempt meet. */
  readonly storeHost: string
  readonly storePort: number
}

/** `failure`: at once, and say how every rank was. `request`: with time to save. */
export type StopReason = 'failure' | 'request'

export type Report =
  | { readonly op: 'join'; readonly hello: Hello }
  /** One of its ranks has failed. */
  | { readonly op: 'failing'; readonly attempt: number; readonly timedOut: boolean }
  /** Nothing of the attempt runs there any more. Times in `states` are by its clock, which shows `now`. */
  | {
      readonly op: 'ended'
      readonly attempt: number
      readonly now: number
      readonly states: readonly RankState[]
    }
  /** Somebody has sent its launcher a signal. */
  | { readonly op: 'leave'; readonly signal: NodeJS.Signals }

export type Order =
  | { readonly op: 'start'; readonly assignment: Assignment }
  | {
      readonly op: 'stop'
      readonly attempt: number
      readonly reason: StopReason
      /** Some rank has waited in vain: say what those do that still run. */
      readonly timedOut: boolean
    }
  | { readonly op: 'say'; readonly text: string }
  /** The last one. */
  | { readonly op: 'end'; readonly report: string; readonly exitCode: number }
