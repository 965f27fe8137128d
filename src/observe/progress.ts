/**
 * Shows how far training is: one line that renews itself where somebody watches, plain lines now and then where the
 * output goes to a file. For one rank only, usually rank 0: it asks nothing of the others.
 */
import { formatProgress, formatSummary, type JobSize, SpeedMeter, type StepReport } from './progress-line.js'

const REDRAW_MS = 100

export interface ProgressOptions extends JobSize {
  readonly stream?: NodeJS.WriteStream
  /** LOCKSTEP_LIVE=1 says that the stream leads to a launcher on a terminal. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Milliseconds, from any origin. */
  readonly now?: () => number
  /** In plain lines: at the latest so long after one comes the next. Every tenth of the job has one as well. */
  readonly plainMs?: number
}

/**
 * ```ts
 * const progress = new Progress({ totalSteps, epochs })
 * progress.update({ step, epoch, loss, samples }) // after every step
 * progress.print('epoch 1: test accuracy 97.1 %') // a line that stays
 * progress.done()
 * ```
 */
export class Progress {
  readonly #job: JobSize
  readonly #now: () => number
  readonly #plainMs: number
  readonly #display: Display
  readonly #meter = new SpeedMeter()
  readonly #started: number
  #samples = 0
  #last: StepReport | undefined
  #shown = { ms: 0, tenth: 0 }

  constructor({ totalSteps, epochs, ...options }: ProgressOptions) {
    const {
      stream = process.stdout,
      env = process.env,
      now = () => performance.now(),
      plainMs = 5_000,
    } = options
    this.#job = { totalSteps, epochs }
    this.#now = now
    this.#plainMs = plainMs
    this.#display = chooseDisplay(stream, env)
    this.#started = now()
  }

  /** Call after every step. Cheap: writes at most ten times a second. */
  update(report: StepReport): void {
    const ms = this.#now()
    const tenth = Math.floor((10 * report.step) / this.#job.totalSteps)
    const due =
      !this.#last || (this.#display.live ? this.#due(ms, REDRAW_MS) : this.#plainDue(ms, tenth, report))
    this.#meter.add(ms, report)
    this.#samples += report.samples
    this.#last = report
    if (!due) return
    this.#display.show(formatProgress(report, this.#job, this.#meter.speed))
    this.#shown = { ms, tenth }
  }

  /** Writes a line that stays, above the progress. */
  print(line: string): void {
    this.#display.keep(line)
  }

  /** Leaves the last step's line behind, with the average speed and the time since this object was made. */
  done(): void {
    if (!this.#last) return
    const seconds = (this.#now() - this.#started) / 1000
    this.#display.keep(formatSummary(this.#last, this.#job, this.#samples, seconds))
    this.#last = undefined
  }

  #due(ms: number, every: number): boolean {
    return ms - this.#shown.ms >= every
  }

  /** The very last line is `done`'s. */
  #plainDue(ms: number, tenth: number, { step }: StepReport): boolean {
    return step < this.#job.totalSteps && (tenth > this.#shown.tenth || this.#due(ms, this.#plainMs))
  }
}

/** Where lines go: `show` may be overwritten by what comes next, `keep` stays. */
interface Display {
  readonly live: boolean
  show(line: string): void
  keep(line: string): void
}

function chooseDisplay(
  stream: NodeJS.WriteStream,
  env: Readonly<Record<string, string | undefined>>,
): Display {
  // log-update writes nothing at all on a terminal that claims to have no rows, as some CI machines do.
  if (stream.isTTY && stream.rows !== 0) return terminal(stream)
  if (env.LOCKSTEP_LIVE === '1') return relayed(stream)
  const write = (line: string) => void stream.write(`${line}\n`)
  return { live: false, show: write, keep: write }
}

function terminal(stream: NodeJS.WriteStream): Display {
  type Draw = ReturnType<typeof import('log-update')['createLogUpdate']>
  let draw: Draw | undefined
  // Only here: it takes a tenth of a rank's start.
  const loading = import('log-update').then(({ createLogUpdate }) => {
    // The cursor stays visible: a rank that is killed has no chance to bring it back.
    draw = createLogUpdate(stream, { showCursor: true })
    return draw
  })
  const drawing = (use: (draw: Draw) => void) => (draw ? use(draw) : void loading.then(use))
  return {
    live: true,
    show: (line) => drawing((draw) => draw(line)),
    keep: (line) =>
      drawing((draw) => {
        draw(line)
        draw.done()
      }),
  }
}

/** Through a launcher: text between two `\r` is the live line, replaced by what comes next (LIVE_VARIABLE says how). */
function relayed(stream: NodeJS.WriteStream): Display {
  return {
    live: true,
    show: (line) => void stream.write(`\r${line}\r`),
    keep: (line) => void stream.write(`\r${line}\n`),
  }
}
