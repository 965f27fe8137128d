/**
 * Finds out in the first steps how gradients are best exchanged: whether during the backward pass and in how many segments of
 * it, then in buckets of which size. Each candidate is timed on a few steps, the slowest rank's time counts, and what is
 * clearly faster is kept (as Horovod's autotuner, with a few candidates instead of a model). It trains and sends nothing.
 */
import type { Communicator } from '../collectives/communicator.js'
import { timelineOf } from './timeline.js'

/** How gradients travel. */
export interface Plan {
  /** Of the backward pass; 1: no overlap. */
  readonly segments: number
  readonly bucketBytes: number
}

/** Each cut costs some of what it hides: two often are enough, as the last layers' gradients are most of all. */
const SEGMENTS = [1, 2, 4] as const
/** Of each candidate; the first compiles, and is not timed. */
const STEPS = 4
/** How much faster it must be to be worth more sessions, or other buckets. */
const GAIN = 0.97

/** The most steps that it takes. */
export const TUNING_STEPS = STEPS * (SEGMENTS.length + 2)

export class ExchangeTuner {
  private best: Plan
  /** Of `best`, on the slowest rank. */
  private bestMs: number | undefined
  /** Of no overlap and the usual buckets. */
  private firstMs: number | undefined
  private trials: readonly Plan[]
  private trial = 0
  private readonly times: number[][] = []
  private said: string[] = []

  /**
   * @param segments undefined: to be found out
   * @param sizes bytes of buckets to choose from, the usual first; if there is one, there is nothing to choose
   */
  constructor(
    private readonly links: Communicator,
    private readonly log: (line: string) => void,
    private readonly segments: number | undefined,
    private readonly sizes: readonly number[],
  ) {
    this.best = { segments: segments ?? 1, bucketBytes: sizes[0]! }
    this.trials =
      segments === undefined ? SEGMENTS.map((each) => this.with({ segments: each })) : this.bucketTrials()
  }

  /** To use in the next step: the same on every rank. */
  get plan(): Plan {
    return this.trials[this.trial] ?? this.best
  }

  /** A step by `plan` has taken so long. All ranks must call it together. */
  async took(milliseconds: number): Promise<void> {
    if (this.trial >= this.trials.length) return
    this.times[this.trial] ??= []
    const times = this.times[this.trial]!
    times.push(milliseconds)
    if (times.length < STEPS) return
    const whole = times.reduce((sum, ms) => sum + ms, 0)
    this.note(`tried ${nameOf(this.plan)}: ${median(times).toFixed(1)} ms a step`, whole)
    this.trial++
    if (this.trial < this.trials.length) return
    await this.decide()
  }

  private async decide(): Promise<void> {
    const { trials, best } = this
    const medians = Float32Array.from(this.times, median)
    await this.links.allReduce(medians, 'max')
    const [least, fastest] = medians.reduce(
      (a, ms, i) => (ms < a[0] ? [ms, i] : a),
      [Number.POSITIVE_INFINITY, 0],
    )
    this.bestMs ??= medians[0]!
    this.firstMs ??= medians[0]!
    if (least < GAIN * this.bestMs) {
      this.best = trials[fastest]!
      this.bestMs = least
    }
    const bySegments = trials.some(({ segments }) => segments !== best.segments)
    this.said.push(
      `${bySegments ? 'by segments of the backward pass' : 'by bytes of a bucket'}: ` +
        trials
          .map((plan, i) => `${bySegments ? plan.segments : mib(plan)}: ${medians[i]!.toFixed(1)} ms`)
          .join(', '),
    )
    this.trials = bySegments ? this.bucketTrials() : []
    this.trial = 0
    this.times.length = 0
    if (this.trials.length === 0) this.report()
  }

  /** Where nothing travels during a pass, there is little that buckets could change. */
  private bucketTrials(): Plan[] {
    const { sizes, best, bestMs } = this
    if (best.segments === 1 || sizes.length < 2) return []
    const measured = bestMs === undefined ? [] : [best.bucketBytes]
    return sizes
      .filter((bucketBytes) => !measured.includes(bucketBytes))
      .map((bucketBytes) => this.with({ bucketBytes }))
  }

  private report(): void {
    const chosen = nameOf(this.best)
    const less = `${(100 * (1 - this.bestMs! / this.firstMs!)).toFixed(0)} % less time`
    this.note(`chosen: ${chosen}, ${less}`, 0)
    this.log(`a step ${this.said.join('; ')}; gradients are exchanged ${chosen}: ${less}`)
  }

  private with(change: Partial<Plan>): Plan {
    return { ...this.best, ...change }
  }

  private note(what: string, ms: number): void {
    timelineOf(this.links)?.ended('step', what, ms)
  }
}

const mib = ({ bucketBytes }: Plan) => `${Number((bucketBytes / 2 ** 20).toPrecision(3))} MiB`

const nameOf = (plan: Plan) =>
  plan.segments === 1
    ? 'after the backward pass'
    : `during the backward pass, in ${plan.segments} segments and buckets of ${mib(plan)}`

/** Without the first. */
const median = ([, ...values]: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
