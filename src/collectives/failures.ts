/**
 * The errors with which a group of ranks ends, and their way out of a worker thread and back into an `Error`.
 */
import { LockstepError } from '../errors.js'

/** The group is broken: no further collective can run in it. */
export class CollectiveError extends LockstepError {
  override name = 'CollectiveError'
  /** This rank's last operations, oldest first, one line each: what the flight recorder held. */
  recentOperations: readonly string[] = []
}

/** The process of another rank ended, or its link broke. */
export class PeerFailedError extends CollectiveError {
  override name = 'PeerFailedError'
  override readonly exitCode = 1
  /** The rank that failed. */
  readonly rank: number

  constructor(rank: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.rank = rank
  }
}

/** An error as plain data, which survives a `postMessage` (a class does not). */
export interface FailureRecord {
  readonly kind: 'peer' | 'collective' | 'lockstep' | 'bug'
  readonly message: string
  readonly rank: number
  readonly recentOperations: readonly string[]
  readonly stack: string | undefined
}

export function toRecord(error: unknown): FailureRecord {
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  const rank = error instanceof PeerFailedError ? error.rank : -1
  const recentOperations = error instanceof CollectiveError ? error.recentOperations : []
  return { kind: kindOf(error), message, rank, recentOperations, stack }
}

function kindOf(error: unknown): FailureRecord['kind'] {
  if (error instanceof PeerFailedError) return 'peer'
  if (error instanceof CollectiveError) return 'collective'
  return error instanceof LockstepError ? 'lockstep' : 'bug'
}

export function fromRecord({ kind, message, rank, recentOperations, stack }: FailureRecord): Error {
  if (kind === 'lockstep') return new LockstepError(message)
  if (kind === 'bug') {
    const bug = new Error(message)
    if (stack !== undefined) bug.stack = stack
    return bug
  }
  const error = kind === 'peer' ? new PeerFailedError(rank, message) : new CollectiveError(message)
  error.recentOperations = recentOperations
  return error
}
