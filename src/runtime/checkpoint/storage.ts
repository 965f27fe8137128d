/**
 * What a place for checkpoints can do; a directory and an S3 bucket are such places (locations.ts has the table).
 * Refuses to know what is in the files.
 */
import { LockstepError } from '../../errors.js'

export interface Stored {
  readonly step: number
  readonly path: string
}

/** Writes a file, all of whose bytes are there when it settles. Names are written once each. */
export type WriteFile = (name: string, pieces: Iterable<Uint8Array>) => Promise<void>

/** A file being read from its beginning. */
export interface Source {
  readonly path: string
  /** In bytes. */
  readonly size: number
  /** The next bytes, as many as `target` holds; throws DamagedError when the file has fewer. */
  fill(target: Uint8Array): Promise<void>
}

export interface Storage {
  /** Where the checkpoint of `step` is, or would be. */
  pathOf(step: number): string
  /** The complete checkpoints, highest step first; none where nothing was ever saved. */
  list(): Promise<Stored[]>
  /**
   * Lets `fill` write the files of a checkpoint, the one that makes it complete last. Readers see all of them or none,
   * and what runs that died while saving left is removed. @returns its path. What `fill` throws leaves nothing.
   */
  create(step: number, fill: (write: WriteFile) => Promise<void>): Promise<string>
  /** Lets `consume` read a file of the checkpoint at `path`. @throws DamagedError when it is not there. */
  read<T>(path: string, name: string, consume: (source: Source) => Promise<T>): Promise<T>
  /** Deletes a complete checkpoint; interrupted, it leaves none that looks complete. */
  remove(path: string): Promise<void>
}

/** A file of a checkpoint is missing or is not what was written: another checkpoint may do. */
export class DamagedError extends LockstepError {}

/** The place cannot be used as it is; `advice` is the next step. System errors of local files stay what they are. */
export class StorageError extends Error {
  constructor(
    message: string,
    readonly advice: string,
    options: ErrorOptions,
  ) {
    super(message, options)
  }
}

/**
 * Runs `work`; a system error (disk full, not a directory, …) becomes a LockstepError `context: cause; advice`, and
 * so does a StorageError, with its own advice.
 */
export async function explainingIo<T>(context: string, advice: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (!(cause instanceof StorageError) && !isSystemError(cause)) throw cause
    const next = cause instanceof StorageError ? cause.advice : advice
    throw new LockstepError(`${context}: ${cause.message}; ${next}`, { cause })
  }
}

export function isSystemError(error: unknown, ...codes: string[]): error is NodeJS.ErrnoException {
  return (
    error instanceof Error &&
    'syscall' in error &&
    (codes.length === 0 || codes.includes((error as NodeJS.ErrnoException).code!))
  )
}
