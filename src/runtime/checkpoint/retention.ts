/** Which checkpoints may go. Decides from steps and metrics alone, and deletes nothing itself. */
import { LockstepError } from '../../errors.js'

/** How good a checkpoint is: a validation loss (`min`), an accuracy (`max`). */
export interface Metric {
  readonly name: string
  readonly value: number
  readonly mode: 'min' | 'max'
}

interface Rated {
  readonly step: number
  readonly metric?: Metric | undefined
}

/**
 * All but the newest `keepLast`, the best by each metric's name, and the one `written` just now: after a step back
 * to an older checkpoint it need not be among the newest.
 * @param newestFirst all complete checkpoints
 */
export function expendable<T extends Rated>(
  newestFirst: readonly T[],
  keepLast: number,
  written: number,
): T[] {
  const names = new Set(newestFirst.flatMap(({ metric }) => metric?.name ?? []))
  const best = [...names].map((name) => bestOf(newestFirst, name))
  return newestFirst
    .slice(keepLast)
    .filter((checkpoint) => checkpoint.step !== written && !best.includes(checkpoint))
}

/** The best by that metric, the newest of equals; undefined when none has it. The newest one's mode counts. */
export function bestOf<T extends Rated>(newestFirst: readonly T[], name: string): T | undefined {
  const rated = newestFirst.filter(({ metric }) => metric?.name === name)
  const sign = rated[0]?.metric?.mode === 'min' ? -1 : 1
  return rated.reduce<T | undefined>(
    (best, next) => (best && sign * next.metric!.value <= sign * best.metric!.value ? best : next),
    undefined,
  )
}

/** @throws LockstepError unless the number to keep and the metric make sense. */
export function checkRetention(keepLast: number | undefined, metric: Metric | undefined): void {
  if (keepLast !== undefined && !(Number.isSafeInteger(keepLast) && keepLast >= 1))
    throw new LockstepError(`save: keepLast is ${keepLast}, expected a whole number of at least 1`)
  if (metric === undefined) return
  if (!Number.isFinite(metric.value))
    throw new LockstepError(
      `save: metric ${metric.name} is ${metric.value}, expected a finite number; leave the metric out of this save`,
    )
  if (metric.mode !== 'min' && metric.mode !== 'max')
    throw new LockstepError(`save: mode of metric ${metric.name} is ${metric.mode}, expected 'min' or 'max'`)
}
