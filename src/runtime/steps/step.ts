/** How the ranks' batches become one update of the parameters: a strategy, one file for each. */
import type { Communicator } from '../../collectives/communicator.js'
import { LockstepError } from '../../errors.js'
import type { BatchInputs } from '../batch.js'
import type { NamedTensor } from '../checkpoint/safetensors.js'
import type { StepResult } from '../ddp-options.js'
import type { Optimizer } from '../optimizers/index.js'
import type { Parameters } from '../parameters.js'
import type { LossScale } from '../precision/loss-scale.js'
import type { Observers, Passes } from './passes.js'

export interface StepOutcome extends StepResult {
  /** Of the mean gradient, where metrics want it. */
  readonly gradientNorm?: number | undefined
}

export interface TrainingStep {
  /** Whether gradients of `accumulate` wait for the next `take`. */
  readonly accumulating: boolean
  /** What this rank must remember to go on just so: part of a checkpoint, and another on every rank. */
  readonly state: readonly NamedTensor[]
  /**
   * Forward, backward, exchange and the optimizer's step `number`, which counts from 1. All ranks together.
   * @throws LockstepError on every rank when the loss is not finite; parameters are untouched. With a loss scale the step is
   *   skipped instead.
   */
  take(number: number, x: BatchInputs, y: BatchInputs): Promise<StepOutcome>
  /** Forward and backward alone. @returns the mean loss of this rank's batch. */
  accumulate(x: BatchInputs, y: BatchInputs): Promise<number>
  /** Parameters are others now, of a checkpoint or rank 0's: what waits is forgotten. All ranks together. */
  reset(): void | Promise<void>
  /** Where ranks differ: gives every rank the mean of all ranks' parameters, until its next step goes on from its own. */
  gather?(): Promise<void>
  /** Where ranks differ: makes them all the same after step `number`, for a checkpoint. */
  settle?(number: number): Promise<void>
}

/** What every strategy works with. */
export interface Workplace {
  readonly links: Communicator
  readonly parameters: Parameters
  readonly optimizer: Optimizer
  readonly passes: Passes
  readonly observers: Observers
  /** Where gradients that are not finite let a step be skipped. */
  readonly lossScale: LossScale | undefined
}

/**
 * Every rank sees the same sums, so every rank comes here at the same step.
 * @param loss this rank's own mean
 * @param bad whether its gradients are not finite, if anybody looked
 * @param parameters what they are now
 */
export async function notFinite(
  { links, observers }: Workplace,
  number: number,
  loss: number,
  bad = false,
  parameters = 'as before this step',
): Promise<LockstepError> {
  const all = [...(await links.allGather(Float32Array.of(loss, Number(bad))))]
  await observers.metrics?.notFinite()
  const ranks = Array.from({ length: links.size }, (_, rank) => {
    const [loss, bad] = all.slice(2 * rank) as [number, number]
    if (!Number.isFinite(loss)) return [`rank ${rank} (${loss})`]
    return bad ? [`rank ${rank} (its gradients, at a loss of ${loss})`] : []
  }).flat()
  return new LockstepError(
    `the loss of step ${number} is not finite on ${ranks.join(', ')}: lower the learning rate, or look for NaN ` +
      `and infinities in that batch; parameters are ${parameters}`,
  )
}
