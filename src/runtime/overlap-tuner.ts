/**
 * Finds out in the first steps whether exchanging gradients during the backward pass pays, and with how many segments:
 * each candidate is timed on a few steps, the slowest rank's time counts, and the best is kept. It trains nothing.
 */
import type { Communicator } from '../collectives/communicator.js'

/** Segments of the backward pass; 1: no overlap. */
const CANDIDATES = [1, 3, 6] as const
/** Of each candidate; the first compiles, and is not timed. */
const STEPS = 5
/** How much faster than no overlap it must be, to be worth more sessions. */
const GAIN = 0.97

export class OverlapTuner {
  private readonly times: number[][] = CANDIDATES.map(() => [])
  private steps = 0
  private chosen: number | undefined

  constructor(
    private readonly links: Communicator,
    private readonly log: (line: string) => void,
  ) {}

  /** Segments to use in the next step: the same on every rank. */
  get segments(): number {
    return this.chosen ?? CANDIDATES[Math.floor(this.steps / STEPS)]!
  }

  /** A step with `segments` has taken so long. All ranks must call it together. */
  async took(milliseconds: number): Promise<void> {
    if (this.chosen !== undefined) return
    if (this.steps % STEPS > 0) this.times[Math.floor(this.steps / STEPS)]!.push(milliseconds)
    this.steps++
    if (this.steps < CANDIDATES.length * STEPS) return
    const medians = Float32Array.from(this.times, median)
    await this.links.allReduce(medians, 'max')
    const best = medians.indexOf(Math.min(...medians))
    this.chosen = medians[best]! < GAIN * medians[0]! ? CANDIDATES[best]! : 1
    const tried = CANDIDATES.map((segments, i) => `${segments}: ${medians[i]!.toFixed(1)} ms`).join(', ')
    this.log(
      `a step by segments of the backward pass: ${tried}; ` +
        (this.chosen === 1
          ? 'gradients are exchanged after it'
          : `gradients are exchanged during it, in ${this.chosen} segments`),
    )
  }
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
