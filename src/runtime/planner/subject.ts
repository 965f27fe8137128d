/** What a plan is made for: what the file that a user gives exports. */

import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import type { BatchInputs } from '../batch.js'
import type { LossFunction, LossName } from '../losses.js'
import type { FunctionalModel } from '../model.js'
import type { Optimizer } from '../optimizers/index.js'
import type { SplitPlan } from '../tensor-parallel/plan.js'

/** What the default export of a model's file, a function, returns, or a promise of it. */
export interface PlanSubject {
  readonly model: LayersModel | FunctionalModel
  /** Needed for a layers model, as for `world.ddp`. */
  readonly loss?: LossName | LossFunction | readonly (LossName | LossFunction)[]
  /** Default: Adam. */
  readonly optimizer?: Optimizer | tf.Optimizer
  /** How ranks may split layers; without it no mesh with tp is looked at. */
  readonly plan?: SplitPlan
  /** A batch of any size, for its shapes; its numbers are not looked at. */
  readonly x: BatchInputs
  readonly y: BatchInputs
}

const EXPECTED = 'export default () => ({ model, loss, optimizer, x, y })'

/** @throws LockstepError when the file cannot be loaded, or exports something else. */
export async function loadSubject(file: string): Promise<PlanSubject> {
  const fail = (what: string, cause?: unknown) =>
    new LockstepError(`plan: ${file} ${what}: expected ${EXPECTED}, x and y being an example batch`, {
      cause,
    })
  const { default: make } = await import(pathToFileURL(resolve(file)).href).catch((cause: Error) => {
    throw fail(`cannot be loaded (${cause.message.split('\n')[0]})`, cause)
  })
  if (typeof make !== 'function') throw fail('has no function as its default export')
  const subject = (await make()) as Partial<PlanSubject> | undefined
  const missing = (['model', 'x', 'y'] as const).filter((name) => !subject?.[name])
  if (missing.length > 0) throw fail(`returns no ${missing.join(', no ')}`)
  return subject as PlanSubject
}
