/**
 * Measures where the time of some steps goes, and says so once: spans of the step by its own clock, operators by
 * onnxruntime's profile of the compiled programs. Adding up and formatting is observe's part.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Program } from '../compiler/program.js'
import { LockstepError } from '../errors.js'
import {
  callsOf,
  chromeTrace,
  formatProfile,
  type Pass,
  type Profile,
  type SessionEvent,
  type Span,
} from '../observe/profile.js'
import { readProfile } from './environment/variables.js'

export interface ProfileOptions {
  /** Where each rank writes its `trace-rank-N.json`; made when it is not there. */
  readonly directory: string
  /** The first step of this run that is measured, from 1; those before it warm up. */
  readonly from?: number
  /** The last one. */
  readonly to?: number
}

type Part = 'between steps (data)' | 'compile' | 'forward and backward' | 'exchange' | 'optimizer' | 'rest'

/** A program of which onnxruntime keeps a profile, and its runs in measured steps. */
interface Watched {
  readonly program: Program
  readonly file: string
  readonly passes: Pass[]
  /** Runs so far. */
  runs: number
}

/** onnxruntime's profile ends after a million events, and large models have thousands in a step. */
const MOST_STEPS = 100
/** Trainers of this process that are profiled: each has files of its own. */
let count = 0

export class Profiler {
  private readonly from: number
  private readonly to: number
  private readonly path: string
  private readonly spans: Span[] = []
  private readonly programs: Watched[] = []
  private step = 1
  private done = false
  private last: number | undefined
  private compiling = 0

  /** @returns undefined when nobody asked for a profile. @throws LockstepError for steps or a directory that cannot be. */
  static from(options: string | ProfileOptions | undefined, rank: number): Profiler | undefined {
    const given = readProfile() ?? options
    if (given === undefined) return undefined
    return new Profiler(typeof given === 'string' ? { directory: given } : given, rank)
  }

  private constructor(
    { directory, from = 3, to = Math.max(12, from + 9) }: ProfileOptions,
    private readonly rank: number,
  ) {
    const whole = Number.isSafeInteger(from) && Number.isSafeInteger(to)
    if (!whole || from < 1 || to < from || to - from >= MOST_STEPS) {
      throw new LockstepError(
        `profile of steps ${from} to ${to}: expected whole numbers, from at least 1, to not before it, and at most ` +
          `${MOST_STEPS} steps`,
      )
    }
    this.from = from
    this.to = to
    count++
    this.path = join(directory, `trace-rank-${rank}${count === 1 ? '' : `-${count}`}`)
    try {
      mkdirSync(directory, { recursive: true })
      writeFileSync(`${this.path}.json`, '')
    } catch (cause) {
      throw new LockstepError(
        `cannot write a profile to ${directory}: ${(cause as Error).message}; give a directory that can be written to`,
        { cause },
      )
    }
  }

  /** Where the next program's session shall write its profile; undefined: nowhere. */
  sessionFile(): string | undefined {
    return this.done ? undefined : `${this.path}.session-${this.programs.length}`
  }

  /** Takes note of a training program that was built with `sessionFile()`. */
  watch(program: Program): void {
    const file = this.sessionFile()
    if (file === undefined) return
    this.programs.push({ program, file, passes: [], runs: 0 })
    this.compiling += program.compileMs
  }

  /** What was done since the last mark was `part`. */
  mark(part: Part): void {
    if (this.done) return
    const [before, now] = [this.last, performance.now()]
    const compile = this.compiling
    this.last = now
    this.compiling = 0
    const measured = this.step >= this.from
    if (part === 'forward and backward') this.takePasses(now, measured)
    if (!measured || before === undefined) return
    if (compile > 0) this.add('compile', before, compile)
    this.add(part, before + compile, now - before - compile)
  }

  /** Ends a step; after the last one that is measured, reports. */
  endStep(): void {
    if (this.done) return
    this.mark('rest')
    this.step++
    if (this.step > this.to) this.report()
  }

  /** To be called before the programs are released: reports on what there is, when the job has ended early. */
  end(): void {
    if (this.done) return
    if (this.step > this.from) {
      this.report()
      return
    }
    this.done = true
    this.say(`the job ended after ${this.step - 1} steps, before step ${this.from} where its profile begins`)
  }

  private add(name: Part, start: number, ms: number): void {
    this.spans.push({ name, start: performance.timeOrigin + start, ms })
  }

  private takePasses(now: number, measured: boolean): void {
    for (const watched of this.programs) {
      const { runs } = watched.program
      if (measured && runs > watched.runs)
        watched.passes.push({ run: runs - 1, end: performance.timeOrigin + now })
      watched.runs = runs
    }
  }

  private report(): void {
    this.done = true
    const calls = this.programs.flatMap(({ program, file, passes }) => {
      program.endProfiling()
      return callsOf(takeEvents(file), passes)
    })
    const profile: Profile = { rank: this.rank, steps: [this.from, this.step - 1], spans: this.spans, calls }
    writeFileSync(`${this.path}.json`, JSON.stringify(chromeTrace(profile)))
    const note =
      calls.length === 0 ? ['Operators are not told apart: the model runs eagerly, on TensorFlow.js.'] : []
    const trace = `Every call, for ui.perfetto.dev or chrome://tracing: ${this.path}.json`
    this.say([...formatProfile(profile), '', ...note, trace].join('\n'))
  }

  private say(text: string): void {
    if (this.rank === 0) console.error(`lockstep profile: ${text}`)
  }
}

/** What onnxruntime wrote to a file whose name begins with `prefix` (it adds the time), which is removed. */
function takeEvents(prefix: string): SessionEvent[] {
  const folder = dirname(prefix)
  const names = readdirSync(folder).filter((name) => name.startsWith(`${basename(prefix)}_`))
  return names.flatMap((name) => {
    const text = readFileSync(join(folder, name), 'utf8')
    rmSync(join(folder, name))
    return JSON.parse(text) as SessionEvent[]
  })
}
