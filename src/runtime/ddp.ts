/**
 * Distributed data parallelism: every rank computes gradients on its own samples, their mean over all samples of all
 * ranks is taken, and every rank applies the same update to the same parameters.
 *
 * A step, in order: batch → program (forward and backward, into the gradient buffer: steps/passes.ts) → sum over ranks,
 * bucket by bucket → optimizer, bucket by bucket → parameter buffer, which is the program's input again (steps/averaged.ts).
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../collectives/communicator.js'
import type { NdArray } from '../data/dataset.js'
import { LockstepError } from '../errors.js'
import { type BatchInputs, readFeatures } from './batch.js'
import type { JsonObject } from './checkpoint/checkpoints.js'
import { onRankZero } from './checkpoint/collective.js'
import { DdpCheckpoints, type LoadOptions, type SaveOptions } from './ddp-checkpoint.js'
import {
  checkOptions,
  type DdpOptions,
  type EvaluationBatch,
  type EvaluationResult,
  type StepResult,
} from './ddp-options.js'
import { chooseEngine } from './engines/choose.js'
import type { Engine, ProgramWatch } from './engines/engine.js'
import { evaluateOver } from './evaluation.js'
import { type ExportOnnxOptions, writeOnnx } from './export-onnx.js'
import { writeTensorflow } from './export-tensorflow.js'
import { replicaState } from './held-state.js'
import { localStepsOf, withOuterState } from './local-steps.js'
import { lossOf } from './losses.js'
import { rankMetrics } from './metrics.js'
import { type FunctionalModel, type Model, modelOf, shapesOf } from './model.js'
import { OneAtATime } from './one-at-a-time.js'
import { optimizerOf } from './optimizers/from-tensorflow.js'
import type { Optimizer } from './optimizers/index.js'
import { Parameters } from './parameters.js'
import { LossScale } from './precision/loss-scale.js'
import { ScaledEngine } from './precision/scaled-engine.js'
import { Profiler } from './profile.js'
import { CompileReport } from './profile-compile.js'
import { requireSame } from './require-same.js'
import { joinClocks, type StepClock } from './step-clock.js'
import { averagedStep, BUCKET_BYTES, localStep } from './steps/choose-exchange.js'
import { Passes } from './steps/passes.js'
import type { TrainingStep } from './steps/step.js'
import { ZeroStep } from './steps/zero.js'
import { type Timeline, timelineOf } from './timeline.js'
import { checkWholeless, checkZero, type Sharding } from './zero/level.js'
import { streamingOf } from './zero/stream.js'
import { spreadModel, wholeValues } from './zero/whole-state.js'

type Checkpoints = Pick<DdpCheckpoints, 'save' | 'saved' | 'load'>

/** Who makes a part of a model, and puts the parts together for checkpoints. */
export interface ModelPart {
  of(model: Model): Model
  checkpoints(parameters: Parameters, optimizer: Optimizer): Checkpoints
}

export class Ddp {
  private readonly model: Model
  private readonly parameters: Parameters
  private readonly computing: Engine
  /** The same, where there is a loss scale. */
  private readonly scaled: ScaledEngine | undefined
  private readonly passes: Passes
  private readonly training: TrainingStep
  private readonly sharding: Sharding
  private readonly checkpoints: Checkpoints
  /** Undefined, and without cost, unless somebody asked for a profile. */
  private readonly profiler: Profiler | undefined
  /** The same for a timeline. */
  private readonly timeline: Timeline | undefined
  /** Profile, metrics and timeline. */
  private readonly clock: StepClock | undefined
  private readonly seed: number
  /** What must be the same on all ranks. */
  private readonly agreed: Readonly<Record<string, string>>
  private readonly calls = new OneAtATime()
  private steps = 0

  /** Use `world.ddp(…)`, which also makes all ranks start from rank 0's weights. */
  constructor(
    private readonly links: Communicator,
    private readonly source: LayersModel | FunctionalModel,
    options: DdpOptions,
    threads: number,
    /** Is told on rank 0, in single lines, what compiling costs. */
    say: (line: string) => void = () => {},
    /** Where this rank computes a part of the model only. */
    part?: ModelPart,
  ) {
    checkOptions(options)
    const { seed = 0, compression = 'none', precision = 'float32', zero = 0, bucketBytes = 'auto' } = options
    const lossScale = LossScale.from(options.lossScale, precision)
    const { rank, size } = links
    const warn = (line: string) => rank === 0 && console.error(`lockstep: ${line}`)
    const model = modelOf(source, [options.loss ?? []].flat().map(lossOf))
    this.model = part?.of(model) ?? model
    const local = localStepsOf(options)
    if (local && part)
      throw new LockstepError('localSteps: ranks that share a model cannot train for themselves')
    const optimizer = withOuterState(optimizerOf(options.optimizer), local?.outer)
    checkZero(zero, options, optimizer)
    this.seed = seed
    const level = size === 1 ? 0 : zero
    const half = level > 0 && part === undefined && precision !== 'float32' ? precision : undefined
    if (half) checkWholeless(this.model.parameters, 'zero 0')
    if (zero === 3) checkWholeless(this.model.parameters, 'zero 2')
    this.agreed = {
      model: shapesOf(this.model),
      ...{ compression, zero: String(level) },
      localSteps: local ? `${local.every} after ${local.warmUp ?? 0}` : 'none',
      precision: lossScale ? `${precision}, loss scale ${lossScale.settings}` : precision,
    }
    const unitFloats = Math.ceil((bucketBytes === 'auto' ? BUCKET_BYTES : bucketBytes) / 4)
    this.sharding = { level, rank, size, unitFloats, turns: links.share ? 1 : 2, half }
    this.parameters = new Parameters(this.model.parameters, optimizer.slots, this.sharding)
    this.profiler = Profiler.from(options.profile, rank)
    this.timeline = timelineOf(links)
    const [metrics, lane] = [rankMetrics(), this.timeline?.steps()]
    this.clock = joinClocks(this.profiler, metrics, lane)
    const report = new CompileReport((line) => rank === 0 && say(line))
    const watch: ProgramWatch = {
      sessionFile: () => this.profiler?.sessionFile(),
      compiled: (kind, shape, program) => {
        report.compiled(kind, shape, program)
        if (kind === 'training') this.profiler?.watch(program)
        this.timeline?.ended('pass', `compile ${kind} ${shape}`, program.compileMs)
      },
    }
    const { parameters } = this
    const streaming = level === 3 ? streamingOf(links, parameters) : undefined
    const engine = chooseEngine(this.model, parameters, options, threads, warn, watch, streaming)
    this.scaled = lossScale && new ScaledEngine(engine, parameters, lossScale, links, metrics)
    this.computing = this.scaled ?? engine
    const observers = { clock: this.clock, metrics, lane }
    this.passes = new Passes(this.computing, this.model, parameters, seed, rank, observers)
    const place = { links, parameters, optimizer, passes: this.passes, observers, lossScale }
    this.training =
      level > 0
        ? new ZeroStep(place, this.sharding, this.scaled)
        : local
          ? localStep(place, local, options, warn)
          : averagedStep(place, options, warn)
    this.checkpoints =
      part?.checkpoints(parameters, optimizer) ??
      new DdpCheckpoints(links, replicaState(links, parameters), optimizer, this.training.state)
  }

  /** Optimizer steps done, those before a resumed checkpoint included. */
  get stepCount(): number {
    return this.steps
  }

  /** What computes: `onnx`, or `tfjs` where that was asked for or the model could not be compiled. */
  get engine(): Engine['name'] {
    return this.computing.name
  }

  /** Milliseconds this rank has spent on tracing models and building sessions. */
  get compileMs(): number {
    return this.computing.compileMs
  }

  /**
   * Bytes that this rank holds of parameters, gradients and the optimizer's state. (Not among them: what a pass computes
   * and lets go, and the TensorFlow.js model's own variables.)
   */
  get stateBytes(): number {
    return this.parameters.bytes(this.training.accumulating)
  }

  /** Shares the buffers that ranks exchange where they share memory, and gives every rank rank 0's parameters. */
  async join(): Promise<void> {
    const { links, parameters } = this
    if (links.size === 1) return
    for (const [what, own] of Object.entries(this.agreed)) await requireSame(links, what, own)
    // Where they cannot be shared, their exchange copies: as right, and slower.
    await links.share?.(parameters.reduced)
    if (parameters.gathered) await links.share?.(parameters.gathered)
    if (!parameters.isSpread) await links.broadcast(parameters.values, 0)
    else await spreadModel(links, parameters)
    if (this.sharding.half) await this.training.reset()
  }

  /**
   * With `zero` 3, or any `zero` and a 16-bit `precision`: gives every rank all float32 parameters, and with `localSteps` the
   * mean of all ranks', until the next step, for `predict`, `paramsSha256` and `updateModel`, which are no calls of all ranks.
   * (`evaluate` and the exports do it themselves.) Otherwise it does nothing. All ranks must call it together.
   */
  async gather(): Promise<void> {
    const { parameters, links } = this
    if (!parameters.isWhole) parameters.values = await wholeValues(links, parameters)
    await this.training.gather?.()
  }

  /**
   * Trains on one batch per rank: gradients of the mean loss over all ranks' samples (batches may differ in size, also
   * between ranks), with those of preceding `accumulate` calls, and one optimizer step. All ranks must call it together.
   *
   * @param x features, the batch first; bytes count as float32; an array of them for a model of several inputs
   * @param y labels, the batch first; an array of them for a model of several outputs
   * @throws LockstepError on every rank when the loss is not finite, naming the ranks where; parameters are untouched. With a
   *   loss scale such a step is skipped, and it is an error when the scale falls below its minimum.
   */
  step(x: BatchInputs, y: BatchInputs): Promise<StepResult> {
    return this.calls.run('step', () => this.takeStep(x, y))
  }

  private async takeStep(x: BatchInputs, y: BatchInputs): Promise<StepResult> {
    await this.letGo()
    const number = this.steps + 1
    const { gradientNorm, ...outcome } = await this.training.take(number, x, y)
    const result = { ...outcome, ...(await this.scaled?.ended(number, outcome.skipped)) }
    if (result.skipped) return result
    await this.computing.constrain()
    this.steps = number
    this.clock?.endStep({ step: number, loss: result.loss, gradientNorm })
    return result
  }

  /**
   * Forward and backward on one batch, without exchange or update: the gradients wait for the next `step`, which
   * weighs every sample of every micro-batch alike. PyTorch's `no_sync`. @returns the mean loss of this rank's batch.
   */
  accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    return this.calls.run('accumulate', async () => {
      await this.letGo()
      const loss = await this.training.accumulate(x, y)
      this.clock?.mark('rest')
      return loss
    })
  }

  /**
   * Loss and accuracy over all ranks' batches, every sample counted once: shard with `EvaluationSampler`, which adds
   * no padding. Ranks may have different numbers of batches, also none. All ranks must call it together.
   */
  evaluate(batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>): Promise<EvaluationResult> {
    return this.calls.run('evaluate', async () => {
      await this.gather()
      return evaluateOver(this.links, this.model, batches, (x, y) => this.computing.evaluate(x, y))
    })
  }

  /** The model's output for `x`, random layers switched off. This rank alone. */
  async predict(x: BatchInputs): Promise<NdArray> {
    const { length } = this.model.classes
    if (length > 1)
      throw new LockstepError(`the model has ${length} outputs: call predictAll() for all of them`)
    return (await this.predictAll(x))[0]!
  }

  /** The same for a model of several outputs: one array for each. */
  async predictAll(x: BatchInputs): Promise<NdArray[]> {
    const outputs = await this.computing.predict(readFeatures(this.model, x))
    return outputs.map(({ data, shape }) => ({ data: data.slice(), shape }))
  }

  /**
   * Writes a checkpoint `directory/step-…`, or `s3://bucket/prefix/step-…`: parameters, optimizer state, counters and
   * `state`, whatever else a resumed run needs. Rank 0 writes, or each rank its part (`sharded`); every rank waits, and gets
   * the error if there is one; with `background` at the next `save`, `load`, `saved` or `close`. @returns its path.
   */
  save(directory: string, state: JsonObject = {}, options: SaveOptions = {}): Promise<string> {
    return this.calls.run('save', async () => {
      await this.training.settle?.(this.steps)
      const { steps, seed, passes, scaled } = this
      const progress = { steps, passes: passes.count, seed, ...scaled?.progress }
      const save = () => this.checkpoints.save(directory, progress, state, options)
      return this.timeline?.during('checkpoint', 'save', save) ?? save()
    })
  }

  /**
   * Settles when a save in the background, if there is one, is complete. All ranks must call it together.
   * @throws LockstepError on every rank when it failed.
   */
  async saved(): Promise<void> {
    await this.checkpoints.saved()
  }

  /**
   * Continues from the newest checkpoint in `directory`, on every rank; a damaged one is passed over for the one before,
   * which rank 0 says on stderr. @returns the `state` given to `save`, or undefined when there is no checkpoint.
   * @throws LockstepError on every rank: all are damaged, the one asked for is not there, or it is of another model.
   */
  load(directory: string, options: LoadOptions = {}): Promise<JsonObject | undefined> {
    return this.calls.run('load', async () => {
      const load = () => this.checkpoints.load(directory, options)
      const loaded = await (this.timeline?.during('checkpoint', 'load', load) ?? load())
      if (loaded === undefined) return undefined
      this.steps = loaded.progress.steps
      this.passes.count = loaded.progress.passes
      this.scaled?.resume(loaded.progress)
      await this.training.reset()
      await this.letGo()
      return loaded.state
    })
  }

  /** SHA-256 (hexadecimal) over all parameters, float32 little-endian, in model order. */
  paramsSha256(): string {
    return this.parameters.sha256()
  }

  /** Copies the trained parameters into the TensorFlow.js model's own variables, for `model.predict` or `model.save`. */
  updateModel(): void {
    const tensors = this.parameters.modelTensors()
    this.model.parameters.forEach(({ variable }, i) => {
      tf.tidy(() => variable.assign(tf.tensor(tensors[i]!.data.slice(), variable.shape)))
    })
  }

  /**
   * Writes the trained model's forward pass (random layers off) as an ONNX file of standard operators, under the names that
   * the model gives its inputs and outputs. Rank 0 writes; every rank waits, and gets rank 0's error if there is one.
   * @throws LockstepError on every rank: it cannot write, a functional model without `predict` or without an example, or
   *   a model that computes with its batch size, which needs `batch`.
   */
  async exportOnnx(path: string, options: ExportOnnxOptions = {}): Promise<string> {
    const { links, source, model, parameters } = this
    await this.gather()
    await onRankZero(links, async () => {
      await writeOnnx(path, { source, model, parameters }, options)
      return null
    })
    return path
  }

  /**
   * Writes the trained layers model as `directory/model.json` and weight shards, for tf.loadLayersModel. The model's own
   * variables get the trained values, as by `updateModel`. Rank 0 writes; every rank waits, and gets rank 0's error.
   * @throws LockstepError on every rank: it cannot write, the directory holds something else, or a functional model.
   */
  async exportTensorflow(directory: string): Promise<string> {
    await this.gather()
    this.updateModel()
    await onRankZero(this.links, async () => {
      await writeTensorflow(directory, this.source)
      return null
    })
    return directory
  }

  /** @throws LockstepError when a call has not ended, which `close` would take the ground from. */
  checkIdle(): void {
    this.calls.check('close')
  }

  /** Frees the compiled programs: no call comes any more. */
  async release(): Promise<void> {
    this.calls.close()
    this.profiler?.end()
    await this.computing.release()
  }

  /** Where parameters are spread: what `gather` has brought is no longer needed. */
  private async letGo(): Promise<void> {
    if (!this.parameters.isSpread || !this.parameters.isWhole) return
    this.parameters.values = undefined
    await this.computing.letGo()
  }
}
