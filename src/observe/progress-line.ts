/**
 * What a progress line says: words from numbers, and a speed from the recent past. Writes nothing and reads no clock.
 */

/** The training loop's own account of one step. */
export interface StepReport {
  /** Steps done since the start of the job, this one included. */
  readonly step: number
  /** From 0. */
  readonly epoch: number
  readonly loss: number
  /** Samples that all ranks together put through this step. */
  readonly samples: number
}

export interface JobSize {
  readonly totalSteps: number
  readonly epochs: number
}

/** Samples and steps per second; undefined until two steps have been seen. */
export interface Speed {
  readonly samples: number
  readonly steps: number
}

const WINDOW_MS = 5_000

/** A moving speed over the last five seconds, or the last two steps where they took longer. */
export class SpeedMeter {
  readonly #points: { readonly ms: number; readonly samples: number; readonly step: number }[] = []
  #samples = 0

  /** @param ms the time at which the step was done */
  add(ms: number, { samples, step }: Pick<StepReport, 'samples' | 'step'>): void {
    this.#samples += samples
    this.#points.push({ ms, samples: this.#samples, step })
    while (this.#points.length > 2 && this.#points[1]!.ms <= ms - WINDOW_MS) this.#points.shift()
  }

  get speed(): Speed | undefined {
    const first = this.#points[0]
    const last = this.#points.at(-1)
    if (!first || !last || last.ms <= first.ms) return undefined
    const seconds = (last.ms - first.ms) / 1000
    return { samples: (last.samples - first.samples) / seconds, steps: (last.step - first.step) / seconds }
  }
}

/** `epoch 2/3  step 120/282  loss 0.1234  5,321 samples/s  0:42 left`, as wide from step to step as can be. */
export function formatProgress(report: StepReport, job: JobSize, speed: Speed | undefined): string {
  const left = speed && formatDuration((job.totalSteps - report.step) / speed.steps)
  return `${formatStep(report, job)}  ${formatSpeed(speed?.samples)}  ${left ?? '-:--'} left`
}

/** The same after the last step, with the time that `samples` samples took in all. */
export function formatSummary(report: StepReport, job: JobSize, samples: number, seconds: number): string {
  const average = seconds > 0 ? samples / seconds : undefined
  return `${formatStep(report, job)}  ${formatSpeed(average)}  in ${formatDuration(seconds)}`
}

/** `0:07`, `12:34` or `1:02:03`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds)
  const two = (n: number) => String(n).padStart(2, '0')
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`
}

function formatStep({ step, epoch, loss }: StepReport, { totalSteps, epochs }: JobSize): string {
  const paddedStep = String(step).padStart(String(totalSteps).length)
  return `epoch ${epoch + 1}/${epochs}  step ${paddedStep}/${totalSteps}  loss ${formatLoss(loss)}`
}

function formatLoss(loss: number): string {
  const magnitude = Math.abs(loss)
  return magnitude !== 0 && (magnitude < 1e-3 || magnitude >= 1e4) ? loss.toExponential(2) : loss.toFixed(4)
}

function formatSpeed(samplesPerSecond: number | undefined): string {
  return `${samplesPerSecond === undefined ? '-' : Math.round(samplesPerSecond).toLocaleString('en-US')} samples/s`
}
