/**
 * Distributed data parallelism: every rank computes gradients on its own samples, their mean over all samples of all
 * ranks is taken, and every rank applies the same update to the same parameters.
 *
 * A step, in order: batch → program (forward and backward, into the gradient buffer) → sum over ranks, bucket by
 * bucket → optimizer, bucket by bucket → parameter buffer, which is the program's input again.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../collectives/communicator.js'
import { compressorByName } from '../collectives/compression/compression.js'
import { add } from '../collectives/kernels/kernels.js'
import type { Update } from '../compiler/program.js'
import type { NdArray } from '../data/dataset.js'
import { LockstepError } from '../errors.js'
import { countCorrect } from './accuracy.js'
import { type BatchInputs, readBatch, readFeatures } from './batch.js'
import type { JsonObject } from './checkpoint/checkpoints.js'
import { onRankZero } from './checkpoint/collective.js'
import { CompressedExchange } from './compressed-exchange.js'
import { DdpCheckpoints, type LoadOptions, type SaveOptions } from './ddp-checkpoint.js'
import { chooseEngine, type EngineOptions } from './engines/choose.js'
import type { Engine, ProgramWatch } from './engines/engine.js'
import { type ExportOnnxOptions, writeOnnx } from './export-onnx.js'
import { writeTensorflow } from './export-tensorflow.js'
import { averageOverRanks, type Bucket, ExactExchange, type GradientExchange } from './gradient-exchange.js'
import { type LossFunction, type LossName, lossOf } from './losses.js'
import { rankMetrics } from './metrics.js'
import { type FunctionalModel, type Model, modelOf } from './model.js'
import { optimizerOf } from './optimizers/from-tensorflow.js'
import type { Optimizer } from './optimizers/index.js'
import { l2Norm } from './optimizers/norm.js'
import { partOf, updatable } from './optimizers/ranges.js'
import { OverlapTuner } from './overlap-tuner.js'
import { OverlappedExchange } from './overlapped-exchange.js'
import { Parameters, STATS } from './parameters.js'
import { type ProfileOptions, Profiler } from './profile.js'
import { CompileReport } from './profile-compile.js'
import { requireSame } from './require-same.js'
import { joinClocks, type StepClock } from './step-clock.js'
import { type StepLane, type Timeline, timelineOf } from './timeline.js'
import { checkWholeless, checkZero, type Sharding, type ZeroLevel } from './zero/level.js'
import { ShardedStep } from './zero/sharded-step.js'
import { streamingOf } from './zero/stream.js'
import { spreadModel, wholeValues } from './zero/whole-state.js'

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
  /** Gradients travel in buckets of about this many bytes. */
  readonly bucketBytes?: number
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
   * Exchange gradients while the backward pass still computes, which is cut into so many segments for it; 1: after it.
   * `auto` (default): what proves fastest in the first steps. In shared memory, with a compressor and without the
   * compiler it is always after it.
   */
  readonly overlap?: number | 'auto'
  /**
   * What the ranks share among them instead of each holding all of it (ZeRO, docs/parallelism.md): 0 (default): nothing;
   * 1: the optimizer's state; 2: gradients too; 3: parameters too. The same on every rank, and the same training.
   */
  readonly zero?: ZeroLevel
}

export interface StepResult {
  /** Mean loss over the samples of all ranks, before the update. */
  readonly loss: number
  /** Samples of all ranks. */
  readonly samples: number
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

type Checkpoints = Pick<DdpCheckpoints, 'save' | 'saved' | 'load'>

/** Who makes a part of a model, and puts the parts together for checkpoints. */
export interface ModelPart {
  of(model: Model): Model
  checkpoints(parameters: Parameters, optimizer: Optimizer): Checkpoints
}

/** What one forward and backward pass leaves besides gradients. */
interface Pass {
  readonly updates: readonly Update[]
  /** Mean over this rank's samples. */
  readonly loss: number
  readonly samples: number
}

/** Small enough that the optimizer starts while most gradients are still travelling, large enough to fill the links. */
const BUCKET_BYTES = 4 * 2 ** 20

export class Ddp {
  private readonly model: Model
  private readonly parameters: Parameters
  private readonly computing: Engine
  private readonly optimizer: Optimizer
  /** Of frozen parameters, in the order that programs number them, after the trainable ones. */
  private readonly frozen: readonly Float32Array[]
  private readonly exchange: GradientExchange
  /** Instead of `exchange`, for passes in several segments. */
  private readonly overlapped: OverlappedExchange | undefined
  /** Instead of both, where state is sharded. */
  private readonly sharded: ShardedStep | undefined
  private readonly sharding: Sharding
  private readonly overlap: { readonly segments: number; took?(ms: number): Promise<void> } | undefined
  /** Undefined, and without cost, unless somebody asked for a profile. */
  private readonly profiler: Profiler | undefined
  /** The same for metrics. */
  private readonly metrics = rankMetrics()
  /** Both, and the timeline. */
  private readonly clock: StepClock | undefined
  /** Both undefined unless somebody asked for a timeline. */
  private readonly timeline: Timeline | undefined
  private readonly lane: StepLane | undefined
  private readonly seed: number
  private readonly compression: string
  private readonly checkpoints: Checkpoints
  private steps = 0
  /** Forward-backward passes so far: with the seed and the rank, the state of all randomness. */
  private passes = 0
  private accumulating = false

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
    const { seed = 0, bucketBytes = BUCKET_BYTES, compression = 'none', overlap = 'auto' } = options
    if (!Number.isSafeInteger(seed)) throw new LockstepError(`seed is ${seed}: expected a whole number`)
    if (!(bucketBytes > 0))
      throw new LockstepError(`bucketBytes is ${bucketBytes}: expected a number of bytes above 0`)
    if (overlap !== 'auto' && !(Number.isInteger(overlap) && overlap >= 1))
      throw new LockstepError(
        `overlap is ${overlap}: expected auto, or segments of the backward pass (1, 2, …)`,
      )
    const model = modelOf(source, [options.loss ?? []].flat().map(lossOf))
    this.model = part?.of(model) ?? model
    this.optimizer = optimizerOf(options.optimizer)
    const zero = options.zero ?? 0
    checkZero(zero, options, this.optimizer)
    if (zero === 3) checkWholeless(this.model.parameters)
    this.seed = seed
    this.compression = compression
    const { rank, size } = links
    this.sharding = {
      level: size === 1 ? 0 : zero,
      rank,
      size,
      unitFloats: Math.ceil(bucketBytes / 4),
      turns: links.share ? 1 : 2,
    }
    this.parameters = new Parameters(this.model.parameters, this.optimizer.slots, this.sharding)
    this.frozen = this.parameters.frozenViews()
    const warn = (line: string) => {
      if (links.rank === 0) console.error(`lockstep: ${line}`)
    }
    this.profiler = Profiler.from(options.profile, links.rank)
    this.timeline = timelineOf(links)
    this.lane = this.timeline?.steps()
    this.clock = joinClocks(this.profiler, this.metrics, this.lane)
    const report = new CompileReport((line) => links.rank === 0 && say(line))
    const watch: ProgramWatch = {
      sessionFile: () => this.profiler?.sessionFile(),
      compiled: (kind, shape, program) => {
        report.compiled(kind, shape, program)
        if (kind === 'training') this.profiler?.watch(program)
        this.timeline?.ended('pass', `compile ${kind} ${shape}`, program.compileMs)
      },
    }
    const streaming = this.sharding.level === 3 ? streamingOf(links, this.parameters) : undefined
    this.computing = chooseEngine(this.model, this.parameters, options, threads, warn, watch, streaming)
    this.exchange = this.exchangeBy(compression, bucketBytes, warn)
    if (this.sharding.level > 0)
      this.sharded = new ShardedStep(links, this.parameters, this.optimizer, this.sharding)
    // In shared memory it is this very thread that reduces: nothing could go on beside its computing.
    else if (this.exchange instanceof ExactExchange && links.size > 1 && links.share === undefined) {
      const { reduced, tensors } = this.parameters
      this.overlapped = new OverlappedExchange(links, reduced, STATS, tensors, bucketBytes)
      this.overlap = overlap === 'auto' ? new OverlapTuner(links, warn) : { segments: overlap }
    }
    this.checkpoints =
      part?.checkpoints(this.parameters, this.optimizer) ??
      new DdpCheckpoints(links, this.parameters, this.optimizer, this.exchange.state)
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
    return this.parameters.bytes(this.accumulating)
  }

  /** Shares the buffers that ranks exchange where they share memory, and gives every rank rank 0's parameters. */
  async join(): Promise<void> {
    const { links, parameters } = this
    if (links.size === 1) return
    await requireSame(links, 'compression', this.compression)
    await requireSame(links, 'zero', String(this.sharding.level))
    // Where they cannot be shared, their exchange copies: as right, and slower.
    await links.share?.(parameters.reduced)
    if (parameters.gathered) await links.share?.(parameters.gathered)
    if (this.sharding.level < 3) await links.broadcast(parameters.values, 0)
    else await spreadModel(links, parameters)
  }

  /**
   * With `zero` 3: gives every rank all parameters, until the next step, for `predict`, `paramsSha256` and `updateModel`,
   * which are no calls of all ranks. (`evaluate` and the exports do it themselves.) Otherwise it does nothing. All ranks
   * must call it together.
   */
  async gather(): Promise<void> {
    const { parameters, links } = this
    if (!parameters.isWhole) parameters.values = await wholeValues(links, parameters)
  }

  /**
   * Trains on one batch per rank: gradients of the mean loss over all ranks' samples (batches may differ in size, also
   * between ranks), with those of preceding `accumulate` calls, and one optimizer step. All ranks must call it together.
   *
   * @param x features, the batch first; bytes count as float32; an array of them for a model of several inputs
   * @param y labels, the batch first; an array of them for a model of several outputs
   * @throws LockstepError on every rank when the loss is not finite, naming the ranks where; parameters are untouched.
   */
  async step(x: BatchInputs, y: BatchInputs): Promise<StepResult> {
    if (this.sharded) return this.shardedStep(this.sharded, x, y)
    const start = performance.now()
    // What waits from `accumulate` must be added first.
    const overlapped = this.accumulating || this.overlap?.segments === 1 ? undefined : this.overlapped
    const { updates, loss: ownLoss, samples: ownSamples } = await this.forwardBackward(x, y, overlapped)
    const { parameters, clock } = this
    const exchange = overlapped ?? this.exchange
    if (this.accumulating) add(parameters.reduced, parameters.sums)
    this.accumulating = false
    const ownBad = exchange.needsFinite && !Number.isFinite(l2Norm(parameters.gradients))
    if (ownBad) parameters.stats[2] = 1
    const averages = averageOverRanks(this.links, updates, ownSamples)
    // Awaited below; when the gradients fail first, its own failure has nothing to add.
    averages.catch(() => {})
    let result: StepResult | undefined
    let squares = this.metrics?.wantsGradientNorm ? 0 : undefined
    const update = this.updatesOf(exchange)
    for await (const bucket of exchange.sum({ step: this.steps + 1, samples: ownSamples })) {
      if (result === undefined) {
        const [loss, samples, bad] = parameters.stats as unknown as [number, number, number]
        if (!Number.isFinite(loss) || bad > 0) break
        result = { loss: loss / samples, samples }
      }
      clock?.mark('exchange')
      if (squares !== undefined) squares += this.sumOfSquares(bucket)
      update(bucket, 1 / result.samples)
      clock?.mark('optimizer')
    }
    const states = await averages
    clock?.mark('exchange')
    if (result === undefined) throw await this.notFinite(ownLoss, ownBad)
    this.takeOver(states)
    await this.computing.constrain()
    this.steps++
    const gradientNorm = squares === undefined ? undefined : Math.sqrt(squares) / result.samples
    clock?.endStep({ step: this.steps, loss: result.loss, gradientNorm })
    await this.overlap?.took?.(performance.now() - start)
    return result
  }

  /**
   * Forward and backward on one batch, without exchange or update: the gradients wait for the next `step`, which
   * weighs every sample of every micro-batch alike. PyTorch's `no_sync`. @returns the mean loss of this rank's batch.
   */
  async accumulate(x: BatchInputs, y: BatchInputs): Promise<number> {
    const { updates, loss } = await this.forwardBackward(x, y)
    this.takeOver(updates)
    const { sums, reduced } = this.parameters
    if (this.sharded?.order) await this.sharded.accumulate()
    else if (this.accumulating) add(sums, reduced)
    else sums.set(reduced)
    this.accumulating = true
    this.clock?.mark('rest')
    return loss
  }

  /**
   * Loss and accuracy over all ranks' batches, every sample counted once: shard with `EvaluationSampler`, which adds
   * no padding. Ranks may have different numbers of batches, also none. All ranks must call it together.
   */
  async evaluate(
    batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>,
  ): Promise<EvaluationResult> {
    // Which of several outputs' accuracies is meant nobody can know.
    const [classes] = this.model.classes.length === 1 ? this.model.classes : []
    const totals = new Float64Array(4)
    await this.gather()
    for await (const { x, y } of batches) {
      const [features, labels] = readBatch(this.model, x, y)
      const samples = features[0]!.spec.shape[0]!
      const { loss, predictions } = await this.computing.evaluate(features, labels)
      totals[0]! += loss * samples
      totals[1]! += samples
      if (classes === undefined) continue
      const scores = predictions[0]!.data
      totals[2]! += countCorrect(labels[0]!.data, scores, classes)
      totals[3]! += scores.length / classes
    }
    if (this.links.size > 1) await this.links.allReduce(totals, 'sum')
    const [loss, samples, correct, guesses] = totals as unknown as [number, number, number, number]
    if (samples === 0)
      throw new LockstepError('evaluate() was given no batch on any rank: expected at least one')
    const accuracy = classes === undefined ? undefined : correct / guesses
    return { loss: loss / samples, accuracy, samples }
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
   * `state`, whatever else a resumed run needs. Rank 0 writes; every rank waits, and gets rank 0's error if there is one;
   * with `background` at the next `save`, `load`, `saved` or `close`. @returns its path.
   */
  async save(directory: string, state: JsonObject = {}, options: SaveOptions = {}): Promise<string> {
    const progress = { steps: this.steps, passes: this.passes, seed: this.seed }
    const save = () => this.checkpoints.save(directory, progress, state, options)
    return this.timeline?.during('checkpoint', 'save', save) ?? save()
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
  async load(directory: string, options: LoadOptions = {}): Promise<JsonObject | undefined> {
    const load = () => this.checkpoints.load(directory, options)
    const loaded = await (this.timeline?.during('checkpoint', 'load', load) ?? load())
    if (loaded === undefined) return undefined
    this.steps = loaded.progress.steps
    this.passes = loaded.progress.passes
    this.accumulating = false
    this.sharded?.reset()
    await this.letGo()
    return loaded.state
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

  /** Frees the compiled programs. */
  async release(): Promise<void> {
    this.profiler?.end()
    await this.computing.release()
  }

  /** With `zero` 3: what `gather` has brought is no longer needed. */
  private async letGo(): Promise<void> {
    if (this.sharding.level < 3 || !this.parameters.isWhole) return
    this.parameters.values = undefined
    await this.computing.letGo()
  }

  /** `step` where state is sharded. */
  private async shardedStep(sharded: ShardedStep, x: BatchInputs, y: BatchInputs): Promise<StepResult> {
    const { parameters, clock } = this
    const { updates, loss, samples } = await this.forwardBackward(x, y)
    if (this.accumulating && !sharded.order) add(parameters.reduced, parameters.sums)
    this.accumulating = false
    const averages = averageOverRanks(this.links, updates, samples)
    averages.catch(() => {})
    const result = await sharded.step(this.steps + 1, (phase) => clock?.mark(phase))
    const states = await averages
    if (result === undefined) throw await this.notFinite(loss, false)
    this.takeOver(states)
    await this.computing.constrain()
    this.steps++
    clock?.endStep({ step: this.steps, loss: result.loss })
    return result
  }

  /** Fills the gradient buffer with sums over this rank's samples, and the stats with their loss and number. */
  private async forwardBackward(
    x: BatchInputs,
    y: BatchInputs,
    overlapped?: OverlappedExchange,
  ): Promise<Pass> {
    const [features, labels] = readBatch(this.model, x, y)
    const samples = features[0]!.spec.shape[0]!
    const key = [this.seed, this.links.rank, this.passes++]
    const { stats } = this.parameters
    const { sharded } = this
    await sharded?.begin()
    await this.letGo()
    this.clock?.mark('between steps (data)')
    stats.fill(0)
    stats[1] = samples
    let loss: number | undefined
    const segments = sharded?.order ?? (overlapped && this.overlap!.segments)
    const made = (gradients: readonly number[]) => {
      this.lane?.endSegment(gradients.length)
      if (sharded && gradients.length === 0) return undefined // part of a forward pass: the loss is still to come
      loss ??= stats[0]! / samples
      return sharded ? sharded.made() : overlapped!.made(gradients)
    }
    const watch = segments === undefined ? undefined : { segments, made }
    const updates = await this.computing.train(features, labels, samples, key, watch)
    this.clock?.mark('forward and backward')
    this.metrics?.pass(samples)
    return { updates, loss: loss ?? stats[0]! / samples, samples }
  }

  private takeOver(updates: readonly Update[]): void {
    const first = this.parameters.tensors.length
    for (const { param, value } of updates) this.frozen[param - first]!.set(value)
  }

  /** Of the gradients in a bucket, before an optimizer may change them. */
  private sumOfSquares({ start, end }: Bucket): number {
    return l2Norm(this.parameters.gradients.subarray(Math.max(0, start - STATS), end - STATS)) ** 2
  }

  /** What to do with each part of the gradients as it arrives: the next update of as much as is allowed by then. */
  private updatesOf(exchange: GradientExchange): (bucket: Bucket, gradScale: number) => void {
    const { parameters, optimizer, overlapped } = this
    const { tensors, trainable, reduced } = parameters
    const inOrder = exchange !== overlapped
    const { granularity } = optimizer
    let [arrived, updated] = [0, 0]
    return ({ start, end }, gradScale) => {
      arrived += end - start
      // Buckets out of order hold whole tensors.
      if (granularity === 'element' || (granularity === 'tensor' && !inOrder)) {
        this.update(Math.max(0, start - STATS), end - STATS, gradScale)
        return
      }
      const reached = inOrder || arrived === reduced.length ? arrived - STATS : 0
      const to = updatable(granularity, tensors, reached, trainable.length)
      this.update(updated, to, gradScale)
      updated = to
    }
  }

  /** The optimizer's next step on the trainable floats [from, to). */
  private update(from: number, to: number, gradScale: number): void {
    if (to <= from) return
    const { trainable, gradients, slots, tensors } = this.parameters
    const part = { params: trainable, grads: gradients, slots, tensors, step: this.steps + 1, gradScale }
    this.optimizer.update(partOf(part, from, to))
  }

  private exchangeBy(name: string, bytes: number, log: (line: string) => void): GradientExchange {
    const { links, parameters } = this
    const compressor = compressorByName(name)
    if (compressor === undefined || links.size === 1)
      return new ExactExchange(links, parameters.reduced, bytes)
    return new CompressedExchange(
      links,
      compressor,
      parameters.reduced,
      STATS,
      parameters.tensors,
      bytes,
      log,
    )
  }

  /** Every rank sees the same sums, so every rank comes here at the same step. */
  private async notFinite(ownLoss: number, ownBad: boolean): Promise<LockstepError> {
    const all = [...(await this.links.allGather(Float32Array.of(ownLoss, Number(ownBad))))]
    const losses = all.filter((_, i) => i % 2 === 0)
    await this.metrics?.notFinite()
    const ranks = losses.flatMap((loss, rank) => {
      if (!Number.isFinite(loss)) return [`rank ${rank} (${loss})`]
      return all[2 * rank + 1] ? [`rank ${rank} (its gradients, at a loss of ${loss})`] : []
    })
    return new LockstepError(
      `the loss of step ${this.steps + 1} is not finite on ${ranks.join(', ')}: lower the learning rate, or look for NaN ` +
        'and infinities in that batch; parameters are as before this step',
    )
  }
}
