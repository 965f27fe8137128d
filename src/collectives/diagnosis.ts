/**
 * The sentences that say why a group of ranks ended: who, in which call, and what to do. Pure functions of what is
 * known; they decide nothing. All ranks in them are ranks in the world.
 */
import { describeCall } from './call.js'
import { describeFlight, type Flight } from './flight-recorder.js'
import type { Frame } from './wire/frame.js'

const SAME_ORDER = 'every rank must call the same collectives in the same order'

export interface Disagreement {
  readonly rank: number
  /** What `rank`, which noticed, has under that number, if it still knows. */
  readonly mine: Flight | undefined
  readonly peer: number
  readonly theirs: Frame
  /** Of the channel. */
  readonly name: string
}

/** Two ranks called different things. */
export function disagreement({ rank, mine, peer, theirs, name }: Disagreement): string {
  const myCall = mine
    ? `rank ${rank} called ${describeCall(mine.call)} as its operation ${mine.sequence}${name}`
    : `rank ${rank} no longer knows its operation ${theirs.sequence}${name}`
  const theirCall = `rank ${peer} called ${describeCall(theirs.call!)} as its operation ${theirs.sequence}${name}`
  const [first, second] = rank < peer ? [myCall, theirCall] : [theirCall, myCall]
  return `${first}, but ${second}: ${SAME_ORDER}`
}

/** A rank said goodbye, and another one still needs it. */
export function closedWorld(peer: number, rank: number, where: string): string {
  return `rank ${peer} closed its world while rank ${rank} was ${where}: ${SAME_ORDER} before it closes`
}

/** A rank's process or link ended without a goodbye. */
export function peerFailed(peer: number, reason: string, rank: number, where: string): string {
  return `rank ${peer} failed: ${reason} while rank ${rank} was ${where}`
}

/** Where a rank is: in an operation, or after its last one. */
export function whereabouts(current: Flight | undefined, last: Flight | undefined): string {
  if (current) return `in operation ${current.sequence}, ${describeFlight(current)}`
  if (last) return `past operation ${last.sequence}, ${describeFlight(last)}`
  return 'before its first operation'
}

/** What the ranks answered that were asked where they are, seen from `rank` in operation `flight`. */
export interface Roll {
  readonly rank: number
  /** All that should have called it. */
  readonly members: readonly number[]
  /** By rank, for those that answered. */
  readonly statuses: ReadonlyMap<number, Frame>
  /** The ranks that data is awaited from. */
  readonly awaited: readonly number[]
}

/** An operation made no progress for `seconds`. */
export function timedOut(flight: Flight, seconds: number, roll: Roll): string {
  const { sequence } = flight
  const what = `${describeFlight(flight)}, operation ${sequence} of rank ${roll.rank}, made no progress for ${seconds} s`
  const advice = 'see what they are doing, or raise the timeout (LOCKSTEP_TIMEOUT, in seconds)'
  return `${what}: ${missing(sequence, roll)}; ${advice}`
}

function missing(sequence: number, { rank, members, statuses, awaited }: Roll): string {
  const absent: string[] = []
  for (const peer of members) {
    if (peer === rank) continue
    const status = statuses.get(peer)
    if (!status) absent.push(`rank ${peer} does not answer`)
    else if (status.sequence < sequence) absent.push(`rank ${peer} has not called it (${lastOf(status)})`)
  }
  if (absent.length > 0) return absent.join(', ')
  const silent = awaited.length > 0 ? `rank ${awaited.join(', rank ')}` : 'the links that it sends on'
  return `all ranks have called it, but nothing moves from ${silent}`
}

function lastOf({ sequence, call }: Frame): string {
  return call ? `its last is operation ${sequence}, ${describeCall(call)}` : 'it has called none yet'
}
