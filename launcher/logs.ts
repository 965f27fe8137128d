/**
 * What ranks write and die of, in files: DIR/<job>/attempt_<k>/<rank>/stdout.log, stderr.log and, where a rank has
 * failed, error.json for machines. A file that cannot be written is said once and does not end the job. It refuses to
 * know what is shown on the screen.
 */
import {
  accessSync,
  constants,
  createWriteStream,
  mkdirSync,
  rmSync,
  type WriteStream,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { LockstepError } from '../src/errors.js'
import type { Streams, StreamsByRank } from './options/forms.js'
import type { Identity, StreamName } from './rank-process.js'
import type { RankState } from './rank-state.js'
import type { Assignment } from './rendezvous/messages.js'
import { describeEnd, hasFailed } from './root-cause.js'

/** @throws LockstepError when `directory` cannot be made or written to. */
export function checkLogDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true })
    accessSync(directory, constants.W_OK)
  } catch (cause) {
    const why = (cause as Error).message
    throw new LockstepError(
      `--log-dir ${directory} cannot be written to (${why}): give another directory, or make it writable`,
      { cause },
    )
  }
}

/** Which streams of a rank, given by local rank, go somewhere. */
export function streamsOf({ named, others }: StreamsByRank, localRank: number): Streams {
  return named.get(localRank) ?? others
}

/** The files of one attempt on one node. */
export class AttemptLogs {
  readonly #directory: string
  readonly #assignment: Assignment
  readonly #kept: (who: Identity, stream: StreamName) => boolean
  readonly #say: (text: string) => void
  readonly #files = new Map<string, WriteStream>()
  #isBroken = false

  /** @param kept whether a stream goes to a file. */
  constructor(
    directory: string,
    assignment: Assignment,
    kept: (who: Identity, stream: StreamName) => boolean,
    say: (text: string) => void,
  ) {
    this.#directory = join(directory, assignment.runId, `attempt_${assignment.attempt}`)
    this.#assignment = assignment
    this.#kept = kept
    this.#say = say
  }

  /** Whether what comes now from this stream is in a file. */
  holds(who: Identity, stream: StreamName): boolean {
    return !this.#isBroken && this.#kept(who, stream)
  }

  write(who: Identity, stream: StreamName, chunk: Buffer): void {
    if (!this.holds(who, stream)) return
    const path = join(this.directoryOf(who.rank), `${stream}.log`)
    let file = this.#files.get(path)
    try {
      file ??= this.#open(who.rank, path)
    } catch (error) {
      this.#giveUp(path, error as Error)
    }
    file?.write(chunk)
  }

  directoryOf(rank: number): string {
    return join(this.#directory, String(rank))
  }

  /** Writes the error files; resolves when all is on its way to the disk. */
  async close(states: readonly RankState[]): Promise<void> {
    for (const state of states.filter(hasFailed)) this.#writeError(state)
    const files = [...this.#files.values()]
    for (const file of files) file.end()
    await Promise.allSettled(files.map((file) => finished(file)))
  }

  #open(rank: number, path: string): WriteStream {
    mkdirSync(this.directoryOf(rank), { recursive: true })
    // A job of the same name may have been here before: what it wrote stays.
    const file = createWriteStream(path, { flags: 'a' })
    file.on('error', (error) => this.#giveUp(path, error))
    this.#files.set(path, file)
    return file
  }

  #writeError(state: RankState): void {
    const { runId, attempt } = this.#assignment
    const { rank, pid, code, signal, failure, at, lastLines, hints } = state
    const path = join(this.directoryOf(rank), 'error.json')
    const message = failure?.text ?? describeEnd(state)
    const content = {
      ...{ runId, attempt, rank, pid, exitCode: code, signal, message },
      ...{ secondary: failure?.secondary ?? false, time: new Date(at).toISOString(), hints, lastLines },
    }
    try {
      mkdirSync(this.directoryOf(rank), { recursive: true })
      rmSync(path, { force: true })
      writeFileSync(path, `${JSON.stringify(content, undefined, 2)}\n`)
    } catch (error) {
      this.#giveUp(path, error as Error)
    }
  }

  #giveUp(path: string, error: Error): void {
    if (this.#isBroken) return
    this.#isBroken = true
    this.#say(
      `ddp-launch: cannot write ${path}: ${error.message}; the ranks go on, and what they write is only shown here from now on`,
    )
  }
}
