/**
 * What a place for checkpoints can do; a directory and an S3 bucket are such places (locations.ts has the table).
 * Refuses to know what is in the files.
 */
import { LockstepError } from '../../errors.js'

export interface Stored {
  readonly step: number
  readonly path: string
}

/** A file being read from its beginning. */
export interface Source {
  readonly path: string
  /** In bytes. */
  readonly size: number
  /** The next bytes, as many as `target` holds; throws DamagedError when the file has fewer. */
  fill(target: Uint8Array): Promise<void>
}

/** A file of which parts are read. */
export interface RandomSource {
  readonly path: string
  /** The bytes from `position` on, as many as `target` holds; throws DamagedError when the file has fewer. */
  fillAt(target: Uint8Array, position: number): Promise<void>
}

export interface Storage {
  /** Where the checkpoint of `step` is, or would be. */
  pathOf(step: number): string
  /** The complete checkpoints, highest step first; none where nothing was ever saved. */
  list(): Promise<Stored[]>
  /**
   * Begins a checkpoint, which readers do not see before `complete`; what runs that died while saving left is removed.
   * @returns its place, to which other processes may write, too.
   */
  begin(step: number): Promise<string>
  /** Whether this process sees what another one has begun. */
  sees(place: string): Promise<boolean>
  /** Writes a file, all of whose bytes are there when it settles. Each name once, and the one that `list` goes by last. */
  write(place: string, name: string, pieces: Iterable<Uint8Array>): Promise<void>
  /** Deletes a file of a checkpoint that is not complete. */
  discard(place: string, name: string): Promise<void>
  /** Readers see it, with all files, or none of it. @returns its path. */
  complete(place: string): Promise<string>
  /** Instead of `complete`: leaves nothing. */
  abandon(place: string): Promise<void>
  /** Lets `consume` read a file of the checkpoint at `path`. @throws DamagedError when it is not there. */
  read<T>(path: string, name: string, consume: (source: Source) => Promise<T>): Promise<T>
  /** Lets `use` read parts of such a file. @throws DamagedError when it is not there. */
  open<T>(path: string, name: string, use: (file: RandomSource) => Promise<T>): Promise<T>
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

/** Lets `fill` write the files of a checkpoint. @returns its path. What `fill` throws leaves nothing. */
export async function createIn(
  storage: Storage,
  step: number,
  fill: (place: string) => Promise<void>,
): Promise<string> {
  const place = await storage.begin(step)
  return completing(storage, place, () => fill(place))
}

/** The same, of one that has begun. */
export async function completing(
  storage: Storage,
  place: string,
  fill: () => Promise<void>,
): Promise<string> {
  try {
    await fill()
    return await storage.complete(place)
  } catch (cause) {
    // The first error is the one to tell; what cannot be removed now readers do not see, and the next save tries again.
    await storage.abandon(place).catch(() => {})
    throw cause
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
