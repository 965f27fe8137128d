/**
 * One rank as the launcher sees it: a process in a group of its own, its lines, and how it ended. It refuses to
 * decide anything about the job.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { type Failure, parseFailure } from '../src/runtime/environment/failure.js'
import { LineSplitter } from './lines.js'
import type { Output } from './output.js'
import { REPORT_FD } from './plan.js'

/** How long the pipes of a rank that is gone are read for what it wrote last. */
const DRAIN_MS = 500
const LAST_LINES = 10
/** A longer line would push everything else off the reader's screen. */
const LAST_LINE_LENGTH = 500

/** What is known of a rank at one moment. */
export interface RankState {
  readonly rank: number
  readonly pid: number | undefined
  readonly running: boolean
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** When it ended or said why it would; milliseconds since the epoch. */
  readonly at: number
  /** What it said it died of. */
  readonly failure: Failure | undefined
  readonly lastLines: readonly string[]
}

export class RankProcess {
  /** Resolves when the process is gone and all that it wrote has been shown. */
  readonly ended: Promise<void>
  readonly #rank: number
  readonly #child: ChildProcess
  readonly #lastLines: string[] = []
  #report = ''
  #startError: Error | undefined
  #endedAt: number | undefined

  constructor(rank: number, nodeArguments: readonly string[], env: NodeJS.ProcessEnv, output: Output) {
    this.#rank = rank
    // detached: a process group of its own, so that whatever the script starts ends with it.
    this.#child = spawn(process.execPath, nodeArguments, {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    })
    this.#show('stdout', output)
    this.#show('stderr', output)
    const report = this.#child.stdio?.[REPORT_FD] as Readable | undefined // none where there is no process
    report?.setEncoding('utf8').on('data', (text: string) => {
      this.#report += text
    })
    this.ended = this.#untilEnded()
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get running(): boolean {
    return this.#endedAt === undefined
  }

  get failed(): boolean {
    return !this.running && this.#child.exitCode !== 0
  }

  state(): RankState {
    const failure = this.#startError ? startFailure(this.#startError) : parseFailure(this.#report)
    const { pid, exitCode, signalCode } = this.#child
    return {
      rank: this.#rank,
      pid,
      running: this.running,
      code: this.#startError ? null : exitCode,
      signal: signalCode,
      at: Math.min(failure?.at ?? Number.POSITIVE_INFINITY, this.#endedAt ?? Date.now()),
      failure,
      lastLines: this.#lastLines,
    }
  }

  /** To the rank and to all that it has started. */
  signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, signal)
    } catch (error) {
      // The last of them has ended (macOS says EPERM as long as that one is a zombie).
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ESRCH' && code !== 'EPERM') throw error
    }
  }

  #show(stream: 'stdout' | 'stderr', output: Output): void {
    const splitter = new LineSplitter({
      line: (bytes) => {
        output.line(this.#rank, stream, bytes)
        this.#lastLines.push(bytes.subarray(0, LAST_LINE_LENGTH).toString())
        if (this.#lastLines.length > LAST_LINES) this.#lastLines.shift()
      },
      live: (bytes) => output.live(this.#rank, bytes),
    })
    this.#child[stream]?.on('data', (chunk: Buffer) => splitter.push(chunk)).on('close', () => splitter.end())
  }

  #untilEnded(): Promise<void> {
    const child = this.#child
    return new Promise((resolve) => {
      child.once('error', (error) => {
        this.#startError = error
        this.#endedAt = Date.now()
        resolve()
      })
      child.once('exit', () => {
        this.#endedAt = Date.now()
        this.signal('SIGKILL') // its own children, which may also hold its pipes open
        const drained = setTimeout(() => {
          for (const pipe of child.stdio) pipe?.destroy()
        }, DRAIN_MS)
        child.once('close', () => {
          clearTimeout(drained)
          resolve()
        })
      })
    })
  }
}

function startFailure(error: Error): Failure {
  return {
    text: `could not be started: ${error.message}`,
    oneLine: true,
    exitCode: 1,
    secondary: false,
    at: Date.now(),
  }
}
