/**
 * The loss scale of float16 training (Micikevicius et al. 2018, section 3.2), with the rules and defaults of PyTorch's
 * GradScaler: small gradients would vanish in 16 bits, so the loss is multiplied before the backward pass and gradients are
 * divided after it. A step whose gradients overflowed is skipped. It computes nothing and knows no ranks.
 */
import { LockstepError } from '../../errors.js'

/** PyTorch's names and defaults; `minScale` is Lockstep's. */
export interface LossScaleOptions {
  /** 65536 */
  readonly initScale?: number
  /** 2: what the scale is multiplied by after `growthInterval` steps without an overflow. */
  readonly growthFactor?: number
  /** 0.5: what it is multiplied by after an overflow. */
  readonly backoffFactor?: number
  /** 2000 */
  readonly growthInterval?: number
  /** 1: an overflow that would bring the scale below this is an error. */
  readonly minScale?: number
}

/** What a checkpoint keeps. */
export type LossScaleState = {
  readonly scale: number
  /** Steps since the last overflow or growth. */
  readonly goodSteps: number
}

/** Steps in a row that a constant scale may skip; a dynamic one ends at `minScale`, after 17 by default. */
const MOST_SKIPPED = 20

export class LossScale {
  private goodSteps = 0
  private skipped = 0

  private constructor(
    private current: number,
    /** Undefined: the scale is constant. */
    private readonly rules: Required<LossScaleOptions> | undefined,
  ) {}

  /**
   * @param wanted a number: constant. `dynamic`, or its options. undefined: dynamic for float16, none for others, whose
   *   exponents are float32's
   * @throws LockstepError naming the option that is out of range
   */
  static from(
    wanted: number | 'dynamic' | LossScaleOptions | undefined,
    precision: string,
  ): LossScale | undefined {
    const given = wanted ?? (precision === 'float16' ? 'dynamic' : undefined)
    if (given === undefined) return undefined
    if (typeof given === 'number') {
      require('lossScale', given, given > 0 && Number.isFinite(given), 'a number above 0')
      return new LossScale(given, undefined)
    }
    if (given !== 'dynamic' && (typeof given !== 'object' || given === null))
      throw wrong('lossScale', given, 'dynamic, a number above 0, or { initScale, growthInterval, … }')
    const rules = {
      ...{ initScale: 65536, growthFactor: 2, backoffFactor: 0.5, growthInterval: 2000, minScale: 1 },
      ...(given === 'dynamic' ? {} : given),
    }
    const { initScale, growthFactor, backoffFactor, growthInterval, minScale } = rules
    require('minScale', minScale, minScale > 0 && Number.isFinite(minScale), 'a number above 0')
    require('initScale', initScale, initScale >= minScale &&
      Number.isFinite(initScale), `a number from minScale (${minScale}) on`)
    require('growthFactor', growthFactor, growthFactor >= 1 &&
      Number.isFinite(growthFactor), 'a number of at least 1')
    require('backoffFactor', backoffFactor, backoffFactor > 0 &&
      backoffFactor < 1, 'a number between 0 and 1')
    require('growthInterval', growthInterval, Number.isInteger(growthInterval) &&
      growthInterval > 0, 'a whole number of steps above 0')
    return new LossScale(initScale, rules)
  }

  /** What the next pass multiplies its loss by. */
  get scale(): number {
    return this.current
  }

  /** Constant scales too: what ranks must agree on. */
  get settings(): string {
    return JSON.stringify(this.rules ?? this.current)
  }

  /** A step was made. */
  succeeded(): undefined {
    this.skipped = 0
    if (this.rules === undefined || ++this.goodSteps < this.rules.growthInterval) return
    this.goodSteps = 0
    const grown = this.current * this.rules.growthFactor
    if (Number.isFinite(Math.fround(grown))) this.current = grown
  }

  /**
   * A step was skipped, as gradients overflowed.
   * @returns undefined, or why it cannot go on so
   */
  overflowed(): string | undefined {
    this.goodSteps = 0
    this.skipped++
    if (this.rules === undefined)
      return this.skipped >= MOST_SKIPPED
        ? `the loss scale is constant, ${this.current}, and ${this.skipped} steps in a row have overflowed`
        : undefined
    const { backoffFactor, minScale } = this.rules
    const lower = this.current * backoffFactor
    if (lower < minScale)
      return `the loss scale would fall from ${this.current} to ${lower}, below its minimum of ${minScale}`
    this.current = lower
    return undefined
  }

  get state(): LossScaleState {
    return { scale: this.current, goodSteps: this.goodSteps }
  }

  /** Goes on from a checkpoint's; a constant scale stays what it is. */
  load({ scale, goodSteps }: LossScaleState): void {
    this.skipped = 0
    if (this.rules === undefined) return
    this.current = scale
    this.goodSteps = goodSteps
  }
}

function require(what: string, given: unknown, fits: boolean, expected: string): void {
  if (!fits) throw wrong(what, given, expected)
}

const wrong = (what: string, given: unknown, expected: string) =>
  new LockstepError(`${what} is ${JSON.stringify(given) ?? given}: expected ${expected}`)
