/** What is known of a rank at one moment. Plain data: it travels between launchers. */
import type { Failure } from '../src/runtime/environment/failure.js'

/** A stack that is longer helps nobody. */
const LONGEST_TEXT = 8000
/** Of more culprits than that, nobody reads the last lines. */
const MOST_CULPRITS = 8

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

/** The same, small enough for one message, however many ranks a node has and whatever they said. */
export function forTravel(states: readonly RankState[]): RankState[] {
  let culprits = 0
  return states.map((state) => {
    const isCulprit = !state.failure?.secondary && state.code !== 0 && culprits++ < MOST_CULPRITS
    const { failure } = state
    return {
      ...state,
      failure: failure && { ...failure, text: failure.text.slice(0, LONGEST_TEXT) },
      lastLines: isCulprit ? state.lastLines : [],
    }
  })
}
