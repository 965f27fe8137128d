/**
 * What a rank counts of its training, in Prometheus' terms, and says about once a second as one line of JSON. It refuses
 * to know who listens, and never waits for them.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { encodeReport } from './metrics-report.js'

/** Parts of a step by the profile's names, and as values of the label `phase`. */
const PHASES = {
  'between steps (data)': 'between_steps',
  'forward and backward': 'forward_backward',
  exchange: 'communication',
  optimizer: 'optimizer',
  rest: 'rest',
} as const
export type StepPart = keyof typeof PHASES

/** What a step is known by when it is over. */
export interface StepOutcome {
  /** Of the job, those before a resumed checkpoint included. */
  readonly step: number
  /** Mean over the samples of all ranks. */
  readonly loss: number
  /** L2 norm of the mean gradient; undefined where nobody has computed it. */
  readonly gradientNorm?: number | undefined
}

export interface RankMetricsOptions {
  readonly rank: number
  readonly host: string
  /** Is given reports. What it drops is in the next one too. */
  readonly send: (report: string) => void
  /** Payload bytes handed to other ranks so far. */
  readonly bytesSent: () => number
  /** TensorFlow.js tensors that are alive. */
  readonly tensors: () => number
  /** Milliseconds, from any origin. */
  readonly now?: () => number
}

const REPORT_MS = 1000
/** 1 ms to 65 s, each twice the one before. */
const STEP_BUCKETS = Array.from({ length: 17 }, (_, i) => 0.001 * 2 ** i)

export class RankMetrics {
  readonly #registry = new Registry()
  readonly #send: (report: string) => void
  readonly #now: () => number
  readonly #timer: NodeJS.Timeout
  readonly #steps: Counter
  readonly #step: Gauge
  readonly #samples: Counter
  readonly #loss: Gauge<'rank'>
  readonly #nonFinite: Counter
  readonly #skipped: Counter
  readonly #lossScale: Gauge<'rank'>
  readonly #compressionRatio: Gauge<'compressor'>
  readonly #compressedShare: Gauge<'compressor'>
  readonly #gradientNorm: Gauge<'rank'>
  readonly #lastStep: Gauge<'rank'>
  readonly #stepSeconds: Histogram
  readonly #phases: { readonly [P in StepPart]: { inc(seconds: number): void } }
  #reportedAt = Number.NEGATIVE_INFINITY
  #normAt = Number.NEGATIVE_INFINITY
  #markedAt: number | undefined
  #stepEndedAt: number | undefined

  constructor({ rank, host, send, bytesSent, tensors, now = () => performance.now() }: RankMetricsOptions) {
    this.#send = send
    this.#now = now
    const registry = this.#registry
    registry.setDefaultLabels({ rank: String(rank), host })
    const of = (name: string, help: string) => ({ name: `lockstep_${name}`, help, registers: [registry] })
    this.#steps = new Counter(of('steps_total', 'Optimizer steps of this process.'))
    this.#step = new Gauge(of('step', 'The step of the job, those before a resumed checkpoint included.'))
    this.#samples = new Counter(of('samples_total', 'Samples that this rank has computed gradients of.'))
    // A metric without labels of its own would begin at 0, which is no loss and no time.
    const unknown = (name: string, help: string) => new Gauge({ ...of(name, help), labelNames: ['rank'] })
    this.#loss = unknown('loss', 'Mean loss of the last step over the samples of all ranks.')
    this.#gradientNorm = unknown('gradient_norm', 'L2 norm of the mean gradient, of a recent step.')
    this.#nonFinite = new Counter(
      of('nonfinite_losses_total', 'Steps refused as loss or gradients were not finite.'),
    )
    this.#skipped = new Counter(
      of('skipped_steps_total', 'Steps skipped as gradients overflowed at the loss scale.'),
    )
    this.#lossScale = unknown('loss_scale', 'What the next loss is multiplied by before the backward pass.')
    const byCompressor = (name: string, help: string) =>
      new Gauge({ ...of(name, help), labelNames: ['compressor'] })
    this.#compressionRatio = byCompressor(
      'compression_ratio',
      'How many times fewer bytes the last step sent of gradients than in float32.',
    )
    this.#compressedShare = byCompressor(
      'compressed_gradients_ratio',
      'Share of all gradients that are in tensors which are compressed.',
    )
    this.#lastStep = unknown('last_step_timestamp_seconds', 'When the last step ended.')
    this.#stepSeconds = new Histogram({
      ...of('step_seconds', 'From the end of one step to that of the next.'),
      buckets: STEP_BUCKETS,
    })
    const phases = new Counter({
      ...of('phase_seconds_total', 'Time by part of the step.'),
      labelNames: ['phase'],
    })
    const phase = (part: StepPart) => [part, phases.labels(PHASES[part])]
    this.#phases = Object.fromEntries((Object.keys(PHASES) as StepPart[]).map(phase))
    new Counter({
      ...of('sent_bytes_total', 'Payload bytes handed to other ranks.'),
      collect() {
        this.reset()
        this.inc(bytesSent())
      },
    })
    new Gauge({
      ...of('resident_memory_bytes', 'Memory of the process, shared pages included.'),
      collect() {
        this.set(process.memoryUsage.rss())
      },
    })
    new Gauge({
      ...of('tensors', 'TensorFlow.js tensors that are alive.'),
      collect() {
        this.set(tensors())
      },
    })
    void this.report()
    // A rank that waits, for data or for others, reports too. (One whose thread is busy cannot: its steps do.)
    this.#timer = setInterval(() => void this.report(), REPORT_MS).unref()
  }

  /** Whether the last one is old: computing it would cost too much at every step. */
  get wantsGradientNorm(): boolean {
    return this.#now() - this.#normAt >= REPORT_MS
  }

  /** Gradients of so many samples have been computed. */
  pass(samples: number): void {
    this.#samples.inc(samples)
  }

  /** What was done since the last mark was `part`. */
  mark(part: StepPart): void {
    const [before, now] = [this.#markedAt, this.#now()]
    this.#markedAt = now
    if (before !== undefined) this.#phases[part].inc((now - before) / 1000)
  }

  endStep({ step, loss, gradientNorm }: StepOutcome): void {
    this.mark('rest')
    const [before, now] = [this.#stepEndedAt, this.#now()]
    this.#stepEndedAt = now
    if (before !== undefined) this.#stepSeconds.observe((now - before) / 1000)
    this.#steps.inc()
    this.#step.set(step)
    this.#loss.set(loss)
    if (gradientNorm !== undefined) {
      this.#gradientNorm.set(gradientNorm)
      this.#normAt = now
    }
    this.#lastStep.setToCurrentTime()
    if (now - this.#reportedAt >= REPORT_MS) void this.report()
  }

  /** The step was refused. Settles when that has been said: the process may well end. */
  async notFinite(): Promise<void> {
    this.#loss.set(Number.NaN)
    this.#nonFinite.inc()
    await this.report()
  }

  /** What the scale is after a step, which may have been skipped. */
  lossScale(scale: number, skipped: boolean): void {
    this.#lossScale.set(scale)
    if (skipped) this.#skipped.inc()
  }

  /** What the last step's gradients were sent as. */
  compressed(compressor: string, { ratio, share }: { readonly ratio: number; readonly share: number }): void {
    this.#compressionRatio.set({ compressor }, ratio)
    this.#compressedShare.set({ compressor }, share)
  }

  async report(): Promise<void> {
    this.#reportedAt = this.#now()
    this.#send(encodeReport(await this.#registry.getMetricsAsJSON()))
  }

  /** Says how it ended. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.report()
  }
}
