/** What is known of a rank at one moment. Plain data: it travels between launchers. */
import type { Failure } from '../src/runtime/environment/failure.js'

export interface RankState {
  readonly rank: number
  readonly pid: number | undefined
  /** The node that it is on; undefined in a job on one node. */
  readonly hostName: string | undefined
  readonly running: boolean
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** When it ended or said why it would; milliseconds since the epoch. */
  readonly at: number
  /** What it said it died of. */
  readonly failure: Failure | undefined
  readonly lastLines: readonly string[]
  /** What its reader should know or look at, besides what it said itself; one line each. */
  readonly hints: readonly string[]
}
