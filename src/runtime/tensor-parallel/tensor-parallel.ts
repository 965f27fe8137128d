/**
 * Tensor parallelism (Shoeybi et al. 2019, "Megatron-LM"): tp ranks hold a slice each of the split layers' weights, with
 * their gradients and optimizer state, compute on the same batch, and sum activations and their gradients as they go. The
 * ranks that hold the same slices train in data parallelism, each on samples of its own.
 */
import { createHash } from 'node:crypto'
import * as tf from '@tensorflow/tfjs-core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../collectives/communicator.js'
import type { NdArray } from '../../data/dataset.js'
import { LockstepError } from '../../errors.js'
import { type BatchInputs, readInputs } from '../batch.js'
import type { JsonObject } from '../checkpoint/checkpoints.js'
import { Ddp, type ModelPart } from '../ddp.js'
import { DdpCheckpoints, type LoadOptions, type SaveOptions } from '../ddp-checkpoint.js'
import type { DdpOptions, EvaluationBatch, EvaluationResult, StepResult } from '../ddp-options.js'
import type { Engine } from '../engines/engine.js'
import { meshState } from '../held-state.js'
import { type NamesOf, requireKnown } from '../known-options.js'
import { lossOf } from '../losses.js'
import { type Mesh, meshOf } from '../mesh.js'
import { type Model, modelOf } from '../model.js'
import { optimizerOf } from '../optimizers/from-tensorflow.js'
import { Parameters } from '../parameters.js'
import type { Placement } from '../placement.js'
import { requireSame } from '../require-same.js'
import type { ZeroLevel } from '../zero/level.js'
import { checkOptimizer, type SplitPlan } from './plan.js'
import { SplitModel } from './split-model.js'

export interface TensorParallelOptions
  extends Pick<
    DdpOptions,
    'loss' | 'optimizer' | 'seed' | 'bucketBytes' | 'engine' | 'provider' | 'recompute'
  > {
  /** Ranks that share the model; the number of all ranks must be a multiple of it. */
  readonly tp: number
  /** Which layers they split, and how: by the units (`column`), by the inputs (`row`), by `heads`, … (docs/parallelism.md). */
  readonly plan: SplitPlan
  /** What ranks with the same slices share of the optimizer's state: as for `world.ddp`, but with tp above 1 at most 1. */
  readonly zero?: ZeroLevel
}

const NAMES: NamesOf<TensorParallelOptions> = {
  ...{ loss: true, optimizer: true, seed: true, bucketBytes: true, tp: true, plan: true, zero: true },
  ...{ engine: true, provider: true, recompute: true },
}

export class TensorParallel {
  private started = false

  private constructor(
    /** Of the ranks that hold the same slices. */
    private readonly ddp: Ddp,
    private readonly split: SplitModel,
    private readonly whole: Model,
    private readonly mesh: Mesh,
  ) {}

  /** Use `world.tensorParallel(…)`. */
  static async create(
    links: Communicator,
    model: LayersModel,
    options: TensorParallelOptions,
    threads: number,
    say?: (line: string) => void,
  ): Promise<TensorParallel> {
    requireKnown('tensorParallel', options, NAMES)
    const { tp, plan, zero = 0, ...rest } = options
    check(links.size, model, options)
    const mesh = meshOf(links, { dp: links.size / tp, tp })
    await startFromRankZero(links, model)
    const losses = [options.loss ?? []].flat().map(lossOf)
    const whole = modelOf(model, losses)
    const split = new SplitModel(model, plan, mesh.tp)
    const part: ModelPart = {
      of: () => split.derive(modelOf(model, split.losses(losses))),
      checkpoints: (parts, optimizer) =>
        new DdpCheckpoints(links, meshState(mesh, placementsOf(whole, split), parts), optimizer, []),
    }
    // The pass is cut for its sums; gradients travel after it.
    const ddpOptions: DdpOptions = { ...rest, zero, ...(zero === 0 && { overlap: 1 }) }
    const ddp = new Ddp(mesh.dp, model, ddpOptions, threads, mesh.tp.rank === 0 ? say : undefined, part)
    await ddp.join()
    return new TensorParallel(ddp, split, whole, mesh)
  }

  /** Optimizer steps done. */
  get stepCount(): number {
    return this.ddp.stepCount
  }

  /** This rank's share of the samples, for a sampler: that of its tp group among all of them. */
  get replica(): { readonly rank: number; readonly size: number } {
    const { rank, size } = this.mesh.dp
    return { rank, size }
  }

  get engine(): Engine['name'] {
    return this.ddp.engine
  }

  get compileMs(): number {
    return this.ddp.compileMs
  }

  /** Bytes that this rank holds of parameters, gradients and optimizer state, as `Ddp.stateBytes`. */
  get stateBytes(): number {
    return this.ddp.stateBytes
  }

  /** As `Ddp.step`. The ranks of one tp group must give the same batch. */
  async step(x: BatchInputs, y: BatchInputs): Promise<StepResult> {
    await this.requireSameBatch(x, y)
    return this.ddp.step(x, y)
  }

  /** As `Ddp.accumulate`; all ranks of a tp group must call it together, with the same batch. */
  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    await this.requireSameBatch(x, y)
    return this.ddp.accumulate(x, y)
  }

  /** As `Ddp.evaluate`: shard by `replica`; the ranks of one tp group must give the same batches. */
  evaluate(batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>): Promise<EvaluationResult> {
    return this.ddp.evaluate(batches)
  }

  /** As `Ddp.predict`, but all ranks of a tp group must call it together, with the same `x`. */
  predict(x: BatchInputs): Promise<NdArray> {
    return this.ddp.predict(x)
  }

  /**
   * As `Ddp.save`: a checkpoint that any number of ranks can load, split or not. Every rank writes its part, unless `sharded`
   * is false.
   */
  save(directory: string, state: JsonObject = {}, options: SaveOptions = {}): Promise<string> {
    return this.ddp.save(directory, state, options)
  }

  /** As `Ddp.saved`. */
  saved(): Promise<void> {
    return this.ddp.saved()
  }

  /** As `Ddp.load`, of a checkpoint that any trainer of this model has saved. */
  load(directory: string, options: LoadOptions = {}): Promise<JsonObject | undefined> {
    return this.ddp.load(directory, options)
  }

  /**
   * Copies the trained parameters, whole, into the TensorFlow.js model's own variables on every rank. All ranks must call
   * it together.
   * @throws LockstepError on every rank of a tp group whose ranks differ in a parameter that is not split.
   */
  async updateModel(): Promise<void> {
    this.ddp.updateModel()
    await requireSame(
      this.mesh.tp,
      'the SHA-256 of the parameters that are not split',
      this.split.unsplitSha256(this.whole),
    )
    await this.split.join()
  }

  /**
   * SHA-256 (hexadecimal) over all parameters, whole, as `Ddp.paramsSha256`; updates the model as `updateModel` does. All
   * ranks must call it together.
   */
  async paramsSha256(): Promise<string> {
    await this.updateModel()
    return new Parameters(this.whole.parameters, []).sha256()
  }

  /** As `Ddp.checkIdle`. */
  checkIdle(): void {
    this.ddp.checkIdle()
  }

  /** Frees the compiled programs and the slices. */
  async release(): Promise<void> {
    await this.ddp.release()
    this.split.dispose()
  }

  /** Sums over ranks of different batches would be of no loss at all. Looked at before the first pass. */
  private async requireSameBatch(x: BatchInputs, y: BatchInputs): Promise<void> {
    if (this.started) return
    this.started = true
    const count = (given: BatchInputs) => (Array.isArray(given) ? given.length : 1)
    const hash = createHash('sha256')
    for (const { data } of [...readInputs('x', x, count(x)), ...readInputs('y', y, count(y))]) {
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    }
    await requireSame(this.mesh.tp, "the SHA-256 of a tp group's first batch", hash.digest('hex'))
  }
}

/** @throws LockstepError for what ranks cannot share, before anything is sent. */
function check(ranks: number, model: LayersModel, { tp, optimizer, zero = 0 }: TensorParallelOptions): void {
  if (!(model instanceof LayersModel))
    throw new LockstepError(
      'tensorParallel() was given something that is no layers model (tf.sequential, tf.model), whose layers could be split',
    )
  if (!Number.isInteger(tp) || tp < 1)
    throw new LockstepError(`tp is ${tp}: expected a whole number of ranks, at least 1`)
  if (ranks % tp !== 0)
    throw new LockstepError(
      `${ranks} ranks with tp ${tp}: ${ranks} / ${tp} = ${+(ranks / tp).toFixed(3)}; expected a multiple of tp: change it, or ` +
        "ddp-launch's --nproc",
    )
  if (tp > 1 && zero > 1)
    throw new LockstepError(
      `zero is ${zero} with tp ${tp}: expected 0 or 1; 2 and 3 cut a pass for their gradients, as tp does for its sums`,
    )
  checkOptimizer(optimizerOf(optimizer), tp)
}

function placementsOf({ parameters }: Model, split: SplitModel): Placement[] {
  const splits = split.splitsOf(parameters)
  return parameters.map((parameter, i) => ({ parameter, owners: [0], split: splits[i] }))
}

/** Gives every rank rank 0's weights, before they are sliced. */
async function startFromRankZero(links: Communicator, model: LayersModel): Promise<void> {
  for (const weight of model.weights) {
    const variable = weight.read() as tf.Variable
    const values = Float32Array.from(variable.dataSync())
    await links.broadcast(values, 0)
    tf.tidy(() => variable.assign(tf.tensor(values, variable.shape)))
  }
}
