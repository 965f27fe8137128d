/**
 * Learning rates that change while training: pure functions of the updates done so far, so that a resumed run goes on
 * where it stopped. They own no counter and know no optimizer.
 */
import { LockstepError } from '../../errors.js'
import type { Settings } from './optimizer.js'
import { requireInRange, requirePositive, requireSteps } from './require.js'

/** Updates done so far (0 before the first one; PyTorch's `last_epoch`) → learning rate, a finite number >= 0. */
export interface Schedule {
  (done: number): number
  /** What a checkpoint records of it; a function of your own may do without. */
  readonly settings?: Settings
}

/** What an optimizer takes as its `lr`. */
export type LearningRate = number | Schedule

/** Always the same: what a plain number as `lr` means. */
export function constant(lr: number): Schedule {
  requireInRange('constant', 'lr', lr)
  return schedule({ schedule: 'constant', lr }, () => lr)
}

/**
 * Rises evenly from `from` × the first rate of `next` to all of it during `steps` updates, and goes on with `next`,
 * whose step 0 that is. PyTorch: LinearLR(start_factor=from, total_iters=steps), in a SequentialLR before `next`.
 */
export function linearWarmup(options: { steps: number; next: LearningRate; from?: number }): Schedule {
  const { steps, next, from = 0 } = options
  requireSteps('linearWarmup', 'steps', steps)
  requireInRange('linearWarmup', 'from', from)
  const following = typeof next === 'function' ? next : constant(next)
  const settings = { schedule: 'linearWarmup', steps, from, next: settingsOf(next) }
  return schedule(settings, (done) =>
    done < steps ? following(0) * (from + ((1 - from) * done) / steps) : following(done - steps),
  )
}

/**
 * Half a cosine from `lr` down to `floor` in `steps` updates, then `floor` (Loshchilov & Hutter 2017, without
 * restarts). PyTorch: CosineAnnealingLR(T_max=steps, eta_min=floor), which rises again after `steps`.
 */
export function cosine(options: { lr: number; steps: number; floor?: number }): Schedule {
  const { lr, steps, floor = 0 } = options
  requireInRange('cosine', 'lr', lr)
  requireSteps('cosine', 'steps', steps)
  requireInRange('cosine', 'floor', floor)
  return schedule({ schedule: 'cosine', lr, steps, floor }, (done) =>
    halfCosine(lr, floor, Math.min(1, done / steps)),
  )
}

/** lr × factor^⌊done / every⌋. PyTorch: StepLR(step_size=every, gamma=factor). */
export function stepDecay(options: { lr: number; every: number; factor?: number }): Schedule {
  const { lr, every, factor = 0.1 } = options
  requireInRange('stepDecay', 'lr', lr)
  requireSteps('stepDecay', 'every', every)
  requireInRange('stepDecay', 'factor', factor)
  return schedule(
    { schedule: 'stepDecay', lr, every, factor },
    (done) => lr * factor ** Math.floor(done / every),
  )
}

/** lr × factor^done. PyTorch: ExponentialLR(gamma=factor). */
export function exponentialDecay(options: { lr: number; factor: number }): Schedule {
  const { lr, factor } = options
  requireInRange('exponentialDecay', 'lr', lr)
  requireInRange('exponentialDecay', 'factor', factor)
  return schedule({ schedule: 'exponentialDecay', lr, factor }, (done) => lr * factor ** done)
}

/**
 * From peak / divide up to `peak` in the first `rise` of `steps` updates, then down to peak / divide / finalDivide,
 * both as half cosines; afterwards it stays there (Smith & Topin 2018). PyTorch: OneCycleLR(max_lr=peak,
 * total_steps=steps, pct_start=rise, div_factor=divide, final_div_factor=finalDivide, cycle_momentum=False).
 */
export function oneCycle(options: {
  peak: number
  steps: number
  rise?: number
  divide?: number
  finalDivide?: number
}): Schedule {
  const { peak, steps, rise = 0.3, divide = 25, finalDivide = 1e4 } = options
  requireInRange('oneCycle', 'peak', peak)
  requireSteps('oneCycle', 'steps', steps)
  requireInRange('oneCycle', 'rise', rise, 1)
  requirePositive('oneCycle', 'divide', divide)
  requirePositive('oneCycle', 'finalDivide', finalDivide)
  const [first, last, top, end] = [peak / divide, peak / divide / finalDivide, rise * steps - 1, steps - 1]
  return schedule({ schedule: 'oneCycle', peak, steps, rise, divide, finalDivide }, (done) =>
    done < top
      ? halfCosine(first, peak, done / top)
      : halfCosine(peak, last, Math.min(1, (done - top) / (end - top))),
  )
}

/** What a checkpoint records of a learning rate. */
export function settingsOf(lr: LearningRate): number | Settings {
  if (typeof lr === 'number') return lr
  return lr.settings ?? { schedule: lr.name || 'custom' }
}

/** The learning rate of each step (1-based) for `owner`. @throws LockstepError, at once or later, when it is none. */
export function rateOf(owner: string, lr: LearningRate): (step: number) => number {
  if (typeof lr === 'function') return (step) => checkedRate(owner, lr(step - 1), ` at step ${step}`)
  checkedRate(owner, lr, '')
  return () => lr
}

function checkedRate(owner: string, rate: number, when: string): number {
  if (typeof rate === 'number' && rate >= 0 && rate < Number.POSITIVE_INFINITY) return rate
  const expected =
    when === '' ? 'a finite number >= 0, or a schedule such as cosine({ lr, steps })' : 'a finite number >= 0'
  throw new LockstepError(`${owner}: lr is ${String(rate)}${when}: expected ${expected}`)
}

/** From `from` (part 0) to `to` (part 1). */
function halfCosine(from: number, to: number, part: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * part))) / 2
}

function schedule(settings: Settings, rate: (done: number) => number): Schedule {
  return Object.assign(rate, { settings })
}
