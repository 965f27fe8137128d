/** What a pipeline is asked for, checked before anything is compiled or sent. The model and its stages are plan.ts' part. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Communicator } from '../../collectives/communicator.js'
import type { Provider } from '../../compiler/onnxruntime.js'
import { LockstepError } from '../../errors.js'
import { optionsOf } from '../engines/choose.js'
import type { RecomputeOption } from '../engines/recompute.js'
import { readEngine } from '../environment/variables.js'
import { type NamesOf, requireKnown } from '../known-options.js'
import { optimizerOf } from '../optimizers/from-tensorflow.js'
import type { Optimizer } from '../optimizers/index.js'
import { checkOptimizer } from '../tensor-parallel/plan.js'
import { checkZero, type Sharding } from '../zero/level.js'
import type { Plan, PlanOptions } from './plan.js'

/** Of a unit in which gradients and parameters travel with ZeRO. */
const UNIT_FLOATS = 2 ** 20

export interface PipelineOptions extends PlanOptions {
  /** One of Lockstep's, or one of tf.train that has an equal here. */
  readonly optimizer: Optimizer | tf.Optimizer
  /** Of dropout and other random layers. */
  readonly seed?: number
  /** 1: ranks that hold the same layers share the optimizer's state (ZeRO); 0 (default): each has all of it. */
  readonly zero?: 0 | 1
  /** Where onnxruntime computes; `auto` (default): on CUDA where it is installed and starts, else on the cpu. */
  readonly provider?: Provider | 'auto'
  /**
   * Keep little of each micro-batch between its passes, and compute the rest again (docs/recompute.md): less memory for one
   * forward pass more. True: where least is needed; or into how many segments each stage is cut at most.
   */
  readonly recompute?: RecomputeOption
}

const NAMES: NamesOf<PipelineOptions> = {
  ...{ loss: true, optimizer: true, seed: true, microBatches: true, schedule: true, stages: true },
  ...{ stagesPerRank: true, dp: true, tp: true, plan: true, zero: true, provider: true, recompute: true },
}

/** @throws LockstepError for options that nobody knows or that contradict each other, or an optimizer that cannot work with parts of a model. */
export function checkedOptimizer(options: PipelineOptions): Optimizer {
  requireKnown('pipeline', options, NAMES)
  const { seed = 0, zero = 0, tp = 1 } = options
  if (!Number.isSafeInteger(seed)) throw new LockstepError(`seed is ${seed}: expected a whole number`)
  const optimizer = optimizerOf(options.optimizer)
  if (optimizer.granularity === 'model' && optimizer.givenNorm === undefined)
    throw new LockstepError(
      `optimizer ${optimizer.name} takes the whole model's gradients at once, of which a rank of a pipeline has only its ` +
        'own: use one without a bound on them, or clipByGlobalNorm outermost',
    )
  checkOptimizer(optimizer, tp)
  checkZero(zero, {}, optimizer)
  if (zero > 1)
    throw new LockstepError(
      `zero is ${zero} in a pipeline: expected 0 or 1; 2 and 3 would exchange gradients or parameters for every micro-batch`,
    )
  return optimizer
}

/** `ddp-launch --engine` goes before the script's options. */
export function providerOf({ provider = 'auto' }: PipelineOptions): Provider | 'auto' {
  const setting = readEngine()
  if (setting === undefined) return provider
  const wanted = optionsOf(setting)
  if (wanted.engine === 'tfjs')
    throw new LockstepError(
      '--engine is tfjs, and a pipeline needs compiled stages: leave it out, or use world.ddp()',
    )
  return wanted.provider ?? 'auto'
}

export function shardingOver({ rank, size }: Communicator, zero: 0 | 1): Sharding {
  return { level: size === 1 ? 0 : zero, rank, size, unitFloats: UNIT_FLOATS, turns: 1 }
}

/** @throws LockstepError: a norm of shards would count such weights once on each of their ranks. */
export function refuseTied({ placements }: Plan, { name }: Optimizer): void {
  const tied = placements.find(({ owners }) => owners.length > 1)
  if (tied === undefined) return
  throw new LockstepError(
    `optimizer ${name} with zero 1, and stages that share weight ${tied.parameter.name}: expected one of the three; leave zero out`,
  )
}
