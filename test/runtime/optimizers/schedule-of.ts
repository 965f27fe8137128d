/** A schedule from its settings, the way golden files and checkpoints write them. */
import type { Schedule } from '../../../src/runtime/optimizers/schedules.js'
import type { Optimizers } from './cases.js'

export function scheduleOf(
  optimizers: Optimizers,
  { schedule, ...options }: { readonly schedule: string },
): Schedule {
  const given = options as { lr: number; next?: number | { schedule: string } }
  if (schedule === 'constant') return optimizers.constant(given.lr)
  const next = typeof given.next === 'object' ? scheduleOf(optimizers, given.next) : given.next
  const make = optimizers[schedule as 'cosine'] as (options: object) => Schedule
  return make(next === undefined ? options : { ...options, next })
}
