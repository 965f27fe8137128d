/**
 * One rank as the launcher sees it: a process in a group of its own, its lines, and how it ended. It refuses to
 * decide anything about the job.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { hostname } from 'node:os'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { type Failure, parseFailure } from '../src/runtime/environment/failure.js'
import { examine, inspectorUrl, isInspectorLine } from './examine.js'
import { hintsFor, readMemoryKills, saysHeapIsFull } from './hints.js'
import { LineSplitter } from './lines.js'
import { METRICS_FD, REPORT_FD } from './plan.js'
import type { RankState } from './rank-state.js'
import { IS_STOPPED, watchForStop } from './stopped.js'

/** How long the pipes of a rank that is gone are read for what it wrote last. */
const DRAIN_MS = 500
/** By how much longer a rank may be stopped than others wait for one: whoever does tells more. */
const LONGER_MS = 1000
const LAST_LINES = 20
/** A longer line would push everything else off the reader's screen. */
const LAST_LINE_LENGTH = 500

/** Which rank. */
export interface Identity {
  readonly rank: number
  readonly localRank: number
  /** Whether the job has other nodes, so that its own has to be named. */
  readonly isAmongNodes: boolean
}

export type StreamName = 'stdout' | 'stderr'

/** Told of the metrics of ranks. */
export interface MetricsListener {
  /** A line of JSON; its end may be missing when the rank was killed. */
  take(who: Identity, line: string): void
  /** The process is gone. */
  ended(who: Identity): void
}

/** Told what ranks write. */
export interface RankListener {
  /** As it comes. */
  bytes(who: Identity, stream: StreamName, chunk: Buffer): void
  /** A finished line, without its line break. */
  line(who: Identity, stream: StreamName, bytes: Buffer): void
  /** What the rank's live line shows now. */
  live(who: Identity, bytes: Buffer): void
}

export class RankProcess {
  /** Resolves when the process is gone and all that it wrote has been shown. */
  readonly ended: Promise<void>
  /** Resolves when it has failed: ended so, or been stopped for longer than ranks wait for each other. */
  readonly failing: Promise<void>
  readonly #who: Identity
  readonly #child: ChildProcess
  readonly #lastLines: string[] = []
  #report = ''
  #findings: string[] = []
  readonly #memoryKillsBefore = readMemoryKills()
  #heapIsFull = false
  /** Known once it has ended. */
  #hints: string[] = []
  /** While the rank's inspector is being opened: told its address. */
  #onInspector: ((url: string) => void) | undefined
  #startError: Error | undefined
  #stopped: Failure | undefined
  #endedAt: number | undefined

  constructor(
    who: Identity,
    nodeArguments: readonly string[],
    env: NodeJS.ProcessEnv,
    listener: RankListener,
    metrics: MetricsListener | undefined,
    timeoutMs: number,
  ) {
    this.#who = who
    // detached: a process group of its own, so that whatever the script starts ends with it.
    this.#child = spawn(process.execPath, nodeArguments, {
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', ...(metrics ? (['pipe'] as const) : [])],
    })
    const reports = this.#child.stdio?.[METRICS_FD] as Readable | undefined
    if (metrics && reports) createInterface(reports).on('line', (line) => metrics.take(who, line))
    this.#listen('stdout', listener)
    this.#listen('stderr', listener)
    const report = this.#child.stdio?.[REPORT_FD] as Readable | undefined // none where there is no process
    report?.setEncoding('utf8').on('data', (text: string) => {
      this.#report += text
    })
    this.ended = this.#untilEnded()
    this.failing = this.#untilFailing(timeoutMs + LONGER_MS)
    if (metrics) void this.ended.then(() => metrics.ended(who))
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get running(): boolean {
    return this.#endedAt === undefined
  }

  state(): RankState {
    const failure = this.#startError
      ? noStart(this.#startError)
      : (parseFailure(this.#report) ?? this.#stopped)
    const { pid, exitCode, signalCode } = this.#child
    return {
      rank: this.#who.rank,
      pid,
      hostName: this.#who.isAmongNodes ? hostname() : undefined,
      running: this.running,
      code: this.#startError ? null : exitCode,
      signal: signalCode,
      at: Math.min(failure?.at ?? Number.POSITIVE_INFINITY, this.#endedAt ?? Date.now()),
      failure,
      lastLines: [...this.#lastLines],
      hints: [...this.#findings, ...this.#hints],
    }
  }

  /** Finds out what the rank does, for its state's hints. */
  async examine(): Promise<void> {
    const { pid } = this.#child
    if (pid === undefined) return
    const lines = await examine(pid, () => {
      const url = new Promise<string>((resolve) => {
        this.#onInspector = resolve
      })
      this.#child.kill('SIGUSR1')
      return url
    })
    this.#findings = [lines.join('\n')]
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

  #listen(stream: StreamName, listener: RankListener): void {
    const splitter = new LineSplitter({
      line: (bytes) => {
        if (stream === 'stderr' && this.#onInspector && this.#isInspectors(bytes.toString())) return
        listener.line(this.#who, stream, bytes)
        if (stream === 'stderr' && bytes.includes('FATAL ERROR'))
          this.#heapIsFull ||= saysHeapIsFull(bytes.toString())
        // What follows is V8's own stack: it would push what the script has said last out of the report.
        if (this.#heapIsFull) return
        this.#lastLines.push(bytes.subarray(0, LAST_LINE_LENGTH).toString())
        if (this.#lastLines.length > LAST_LINES) this.#lastLines.shift()
      },
      live: (bytes) => listener.live(this.#who, bytes),
    })
    this.#child[stream]
      ?.on('data', (chunk: Buffer) => {
        listener.bytes(this.#who, stream, chunk)
        splitter.push(chunk)
      })
      .on('close', () => splitter.end())
  }

  #isInspectors(line: string): boolean {
    const url = inspectorUrl(line)
    if (url !== undefined) this.#onInspector?.(url)
    return isInspectorLine(line)
  }

  #findHints(): string[] {
    const [before, after] = [this.#memoryKillsBefore, readMemoryKills()]
    const memoryKills = before === undefined || after === undefined ? undefined : after - before
    return hintsFor({ signal: this.#child.signalCode, heapIsFull: this.#heapIsFull, memoryKills })
  }

  #untilFailing(patienceMs: number): Promise<void> {
    const { pid } = this
    return new Promise((resolve) => {
      const unwatch =
        pid !== undefined &&
        watchForStop(pid, patienceMs, () => {
          this.#stopped = ownFailure(IS_STOPPED)
          resolve()
        })
      void this.ended.then(() => {
        if (unwatch) unwatch()
        if (this.#child.exitCode !== 0) resolve()
      })
    })
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
          this.#hints = this.#findHints()
          resolve()
        })
      })
    })
  }
}

function noStart(error: Error): Failure {
  return ownFailure(`could not be started: ${error.message}`)
}

/** What the launcher says for a rank that cannot. */
function ownFailure(text: string): Failure {
  return { text, oneLine: true, exitCode: 1, secondary: false, timedOut: false, at: Date.now() }
}
