/** What a user gives to `world.ddp` and gets from a trainer. */
import type * as tf from '@tensorflow/tfjs-core'
import { LockstepError } from '../errors.js'
import type { BatchInputs } from './batch.js'
import type { EngineOptions } from './engines/choose.js'
import { type NamesOf, requireKnown } from './known-options.js'
import type { LocalSteps } from './local-steps.js'
import type { LossFunction, LossName } from './losses.js'
import type { Optimizer } from './optimizers/index.js'
import type { LossScaleOptions } from './precision/loss-scale.js'
import type { ProfileOptions } from './profile.js'
import type { ZeroLevel } from './zero/level.js'

export interface DdpOptions extends EngineOptions {
  /**
   * Needed for a layers model: a loss by name, or a function of (labels, predictions) with the batch's mean. For a model
   * of several outputs one for all, or one for each; they are added up.
   */
  readonly loss?: LossName | LossFunction | readonly (LossName | LossFunction)[]
  /** One of Lockstep's, or one of tf.train that has an equal here. */
  readonly optimizer: Optimizer | tf.Optimizer
  /** Of dropout and other random layers; each rank and step draws its own numbers from it. */
  readonly seed?: number
  /**
   * Gradients travel in buckets of about this many bytes. By default a quarter of them each, from 256 KiB to 4 MiB (compressed:
   * to 1 MiB); two ranks on a network try other sizes in the first steps, as more do with `auto`. (With more than two, what
   * proves fastest may change the last bit.)
   */
  readonly bucketBytes?: number | 'auto'
  /**
   * Where the time of a step goes, by operator and layer, printed by rank 0 after step 12 of this run, and a trace of each
   * rank in this directory. `ddp-launch --profile` goes before it.
   */
  readonly profile?: string | ProfileOptions
  /**
   * How gradients travel: `none`, `float16`, `bfloat16`, `int8`, `int4`, `onebit`, `topk:0.01`, `randomk:0.01`, `dgc:0.001`,
   * `powersgd:4`, with options and codecs behind them, e.g. `topk:0.01+float16` or `onebit,warmup=100`
   * (docs/compression.md). The same on every rank. A world of one sends nothing, and compresses nothing.
   */
  readonly compression?: string
  /**
   * Exchange gradients while the backward pass still computes, which is cut into up to so many segments of whole buckets for it;
   * 1: after it. `auto` (default): what proves fastest in the first steps. In shared memory and without the compiler it is always
   * after it. The training is the same, bit for bit.
   */
  readonly overlap?: number | 'auto'
  /**
   * What the ranks share among them instead of each holding all of it (ZeRO, docs/parallelism.md): 0 (default): nothing;
   * 1: the optimizer's state; 2: gradients too; 3: parameters too. The same on every rank, and the same training. With a 16-bit
   * `precision` what passes read and write of it is in 16 bits, and the float32 parameters are shared too.
   */
  readonly zero?: ZeroLevel
  /**
   * Ranks train each for themselves, and average their parameters after every so many steps (local SGD), or give what they have
   * moved by to an outer optimizer (DiLoCo): docs/local-steps.md. The same on every rank.
   */
  readonly localSteps?: number | LocalSteps
  /**
   * What the loss is multiplied by before the backward pass, so that gradients do not vanish in 16 bits: `dynamic` (default
   * with precision float16) as PyTorch's GradScaler, a number, or the scaler's options. A step whose gradients overflow
   * is skipped on all ranks. Default with other precisions: none. The same on every rank.
   */
  readonly lossScale?: 'dynamic' | number | LossScaleOptions
}

export interface StepResult {
  /** Mean loss over the samples of all ranks, before the update. */
  readonly loss: number
  /** Samples of all ranks. */
  readonly samples: number
  /** True when gradients overflowed in 16 bits: no parameter has changed, and `stepCount` neither. The loss may be NaN. */
  readonly skipped?: true
  /** What this step's loss was multiplied by; undefined without a loss scale. */
  readonly lossScale?: number
}

/** What `evaluate` takes: what a data loader gives, or arrays for a model of several inputs or outputs. */
export interface EvaluationBatch {
  readonly x: BatchInputs
  readonly y: BatchInputs
}

export interface EvaluationResult {
  /** Mean over all samples of all ranks. */
  readonly loss: number
  /**
   * Share of labels (one a sample, or one a token) whose score is the largest; undefined unless the loss is a
   * classification loss.
   */
  readonly accuracy: number | undefined
  readonly samples: number
}

const NAMES: NamesOf<DdpOptions> = {
  ...{ loss: true, optimizer: true, seed: true, bucketBytes: true, profile: true, compression: true },
  ...{ overlap: true, zero: true, localSteps: true, lossScale: true },
  ...{ engine: true, provider: true, precision: true, recompute: true },
}

/** @throws LockstepError naming the first option that is not known, or no value of its kind. */
export function checkOptions(options: DdpOptions): void {
  requireKnown('ddp', options, NAMES)
  const { seed = 0, bucketBytes = 1, overlap = 'auto' } = options
  if (!Number.isSafeInteger(seed)) throw new LockstepError(`seed is ${seed}: expected a whole number`)
  if (bucketBytes !== 'auto' && !(bucketBytes > 0))
    throw new LockstepError(`bucketBytes is ${bucketBytes}: expected auto, or a number of bytes above 0`)
  if (overlap !== 'auto' && !(Number.isInteger(overlap) && overlap >= 1))
    throw new LockstepError(
      `overlap is ${overlap}: expected auto, or segments of the backward pass (1, 2, …)`,
    )
}
