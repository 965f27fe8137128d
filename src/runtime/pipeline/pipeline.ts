/**
 * Pipeline parallelism: a model's layers are dealt out to ranks, and a batch goes through them in micro-batches. Every rank
 * holds parameters, gradients and optimizer state of its own stages, and of no others.
 *
 * A step, in order: the schedule's passes and transfers → loss of all → sum of gradients over the replicas → optimizer.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../collectives/communicator.js'
import { Program } from '../../compiler/program.js'
import { resolveProvider } from '../../compiler/providers.js'
import type { Recompute } from '../../compiler/recompute-cuts.js'
import type { SessionOptions } from '../../compiler/session.js'
import type { NdArray } from '../../data/dataset.js'
import { LockstepError } from '../../errors.js'
import { type BatchInputs, readBatch, readFeatures } from '../batch.js'
import type { JsonObject } from '../checkpoint/checkpoints.js'
import { DdpCheckpoints, type LoadOptions, type SaveOptions } from '../ddp-checkpoint.js'
import type { EvaluationBatch, EvaluationResult, StepResult } from '../ddp-options.js'
import { Constraints } from '../engines/onnx-constraints.js'
import { recomputeOf } from '../engines/recompute.js'
import { averageOverRanks } from '../gradient-exchange.js'
import { meshState } from '../held-state.js'
import { rankMetrics } from '../metrics.js'
import { OneAtATime } from '../one-at-a-time.js'
import type { Optimizer } from '../optimizers/index.js'
import { Parameters } from '../parameters.js'
import { joinClocks, type StepClock } from '../step-clock.js'
import { type Timeline, timelineOf } from '../timeline.js'
import { evaluatePipeline, predictPipeline } from './evaluate.js'
import { execute, type Handlers, type Times } from './executor.js'
import { handlersOf } from './handlers.js'
import { StageLinks } from './links.js'
import { microBatchesOf } from './micro-batches.js'
import { checkedOptimizer, type PipelineOptions, providerOf, refuseTied, shardingOver } from './options.js'
import { OwnStages, stagesOn } from './own-stages.js'
import { type Plan, planOf } from './plan.js'
import { Update } from './update.js'
import { WholeModel } from './whole-model.js'

export interface PipelineStepResult extends StepResult {
  /** Share of the ranks' time in which they computed no pass, from the schedule's begin until the last rank is through. */
  readonly bubbleFraction: number
  /** Milliseconds that each rank computed passes, in the order of the ranks: alike where stages are equal. */
  readonly computeMs: readonly number[]
}

export class Pipeline {
  private readonly own: OwnStages
  private readonly borders: StageLinks
  private readonly constraints: Constraints
  private readonly whole: WholeModel
  private readonly checkpoints: DdpCheckpoints
  private readonly update: Update
  private steps = 0
  private passes = 0
  /** Undefined, and without cost, unless somebody asked for metrics. */
  private readonly metrics = rankMetrics()
  /** Undefined unless somebody asked for a timeline. */
  private readonly timeline: Timeline | undefined
  /** Both. */
  private readonly clock: StepClock | undefined
  private readonly calls = new OneAtATime()

  private constructor(
    private readonly links: Communicator,
    private readonly plan: Plan,
    private readonly parameters: Parameters,
    optimizer: Optimizer,
    private readonly seed: number,
    session: SessionOptions,
    private readonly microBatches: number,
    recompute?: Recompute,
  ) {
    const { mesh, stages, model, placements } = plan
    this.timeline = timelineOf(links)
    this.clock = joinClocks(this.metrics, this.timeline?.steps())
    this.own = new OwnStages(plan, parameters, session, recompute)
    this.borders = new StageLinks(mesh.pp, stages.length)
    const held = { ...model, parameters: stagesOn(plan).flatMap((stage) => stage.parameters) }
    this.constraints = new Constraints(held, parameters, (request) => Program.compile(request, session))
    this.whole = new WholeModel(mesh, placements, parameters)
    this.checkpoints = new DdpCheckpoints(links, meshState(mesh, placements, parameters), optimizer, [])
    this.update = new Update(plan, parameters, optimizer)
  }

  /** Use `world.pipeline(…)`. All ranks must call it together. */
  static async create(
    links: Communicator,
    source: LayersModel,
    options: PipelineOptions,
    threads: number,
  ): Promise<Pipeline> {
    const optimizer = checkedOptimizer(options)
    const { seed = 0, microBatches, zero = 0 } = options
    const session = { threads, provider: await resolveProvider(providerOf(options)) }
    const plan = await planOf(links, source, options, session)
    const parameters = new Parameters(
      stagesOn(plan).flatMap((stage) => stage.parameters),
      optimizer.slots,
      shardingOver(plan.mesh.dp, zero),
    )
    if (parameters.sharding.level > 0 && optimizer.granularity === 'model') refuseTied(plan, optimizer)
    const pipeline = new Pipeline(
      links,
      plan,
      parameters,
      optimizer,
      seed,
      session,
      microBatches,
      recomputeOf(options.recompute),
    )
    await pipeline.whole.takeFromRankZero(links)
    return pipeline
  }

  /** Optimizer steps done. */
  get stepCount(): number {
    return this.steps
  }

  /** Which of the pipelines this rank is in, of how many: samples are shared out among them. */
  get replica(): { readonly rank: number; readonly size: number } {
    const { rank, size } = this.plan.mesh.dp
    return { rank, size }
  }

  /** The names of this rank's layers, one list for each of its stages. */
  get layers(): readonly (readonly string[])[] {
    return this.own.layers
  }

  /** Of this rank's parameters, gradients and optimizer state; what passes keep for their backward half is not in it. */
  get stateBytes(): number {
    const { trainable, frozen, gradients, slots } = this.parameters
    return [trainable, frozen, gradients, ...slots].reduce((sum, { byteLength }) => sum + byteLength, 0)
  }

  /** The most micro-batches that any of this rank's stages has kept between forward and backward pass. */
  mostInFlight(): Promise<number> {
    return this.own.mostInFlight()
  }

  /**
   * Trains on one batch per replica: gradients of the mean loss over all replicas' samples, and one optimizer step. Every
   * rank of a replica must give the same batch, and all ranks call it together.
   *
   * @param x features, the batch first; read by the first stage's rank
   * @param y labels, the batch first; read by the last stage's rank
   * @throws LockstepError on every rank when the loss is not finite, naming the replicas where; parameters are untouched.
   */
  step(x: BatchInputs, y: BatchInputs): Promise<PipelineStepResult> {
    return this.calls.run('step', () => this.takeStep(x, y))
  }

  private async takeStep(x: BatchInputs, y: BatchInputs): Promise<PipelineStepResult> {
    this.clock?.mark('between steps (data)')
    const { plan, microBatches } = this
    const [features, labels] = readBatch(plan.model, x, y)
    const samples = features[0]!.spec.shape[0]!
    const [xs, ys] = [microBatchesOf(features, microBatches), microBatchesOf(labels, microBatches)]
    const trainings = await this.own.trainings(xs[0]!, ys[0]!)
    const averages = [...trainings.values()].flatMap((training) => training.updated())
    const before = averages.map((values) => values.slice())
    let own = 0
    const handlers = handlersOf({
      trainings,
      stages: plan.stages,
      borders: this.borders,
      features: xs,
      labels: ys,
      key: [this.seed, plan.mesh.dp.rank, this.passes++],
      lost: (loss) => {
        own += loss
      },
    })
    const times = await execute(plan.actions, this.timed(handlers))
    this.clock?.mark('forward and backward')
    this.metrics?.pass(samples / plan.mesh.pp.size / plan.mesh.tp.size)
    const result = await this.summarize(own, samples, times)
    if (!Number.isFinite(result.loss)) {
      averages.forEach((values, i) => {
        values.set(before[i]!)
      })
      await this.metrics?.notFinite()
      throw await this.notFinite(own)
    }
    const updates = averages.map((value, param) => ({ param, value }))
    const mean = await averageOverRanks(plan.mesh.dp, updates, samples)
    for (const { param, value } of mean) averages[param]!.set(value as Float32Array)
    const all = { own: samples, all: result.samples }
    await this.update.take(this.steps + 1, all, (phase) => this.clock?.mark(phase))
    await this.constraints.apply()
    this.steps++
    this.clock?.endStep({ step: this.steps, loss: result.loss })
    return result
  }

  /**
   * Loss and accuracy over all replicas' batches, every sample counted once. Every rank of a replica must give the same
   * batches; all ranks must call it together.
   */
  evaluate(batches: AsyncIterable<EvaluationBatch> | Iterable<EvaluationBatch>): Promise<EvaluationResult> {
    return this.calls.run('evaluate', () =>
      evaluatePipeline(this.links, this.own.inferences, this.plan, this.borders, batches),
    )
  }

  /** The model's outputs for `x`, random layers switched off. All ranks of a replica must call it together, with the same. */
  async predictAll(x: BatchInputs): Promise<NdArray[]> {
    const features = readFeatures(this.plan.model, x)
    return predictPipeline(this.own.inferences, this.plan, this.borders, features)
  }

  /** The same for a model of one output. */
  async predict(x: BatchInputs): Promise<NdArray> {
    const { length } = this.plan.model.classes
    if (length > 1)
      throw new LockstepError(`the model has ${length} outputs: call predictAll() for all of them`)
    return (await this.predictAll(x))[0]!
  }

  /**
   * Writes a checkpoint, as `Ddp.save`: either loads the other's, on any number of ranks. Every rank writes its part, unless
   * `sharded` is false. @returns its path.
   */
  save(directory: string, state: JsonObject = {}, options: SaveOptions = {}): Promise<string> {
    const progress = { steps: this.steps, passes: this.passes, seed: this.seed }
    return this.calls.run('save', () => this.checkpoints.save(directory, progress, state, options))
  }

  /** Settles when a save in the background, if there is one, is complete. All ranks must call it together. */
  async saved(): Promise<void> {
    await this.checkpoints.saved()
  }

  /**
   * Continues from the newest checkpoint in `directory`, on every rank. @returns the `state` given to `save`, or undefined
   * when there is no checkpoint. @throws LockstepError on every rank, as `Ddp.load`.
   */
  async load(directory: string, options: LoadOptions = {}): Promise<JsonObject | undefined> {
    const loaded = await this.calls.run('load', () => this.checkpoints.load(directory, options))
    if (loaded === undefined) return undefined
    this.steps = loaded.progress.steps
    this.passes = loaded.progress.passes
    return loaded.state
  }

  /**
   * SHA-256 (hexadecimal) over all parameters of the model, float32 little-endian, in model order. All ranks of a replica
   * must call it together.
   */
  async paramsSha256(): Promise<string> {
    return this.whole.sha256()
  }

  /**
   * Copies the trained parameters of all stages into this rank's TensorFlow.js model, for `model.predict` or `model.save`.
   * All ranks of a replica must call it together.
   */
  async updateModel(): Promise<void> {
    await this.whole.each(({ variable }, data) => {
      tf.tidy(() => variable.assign(tf.tensor(data.slice(), variable.shape)))
    })
  }

  /** As `Ddp.checkIdle`. */
  checkIdle(): void {
    this.calls.check('close')
  }

  /** Frees the compiled programs: no call comes any more. */
  async release(): Promise<void> {
    this.calls.close()
    await this.constraints.release()
    await this.own.release()
    this.plan.release()
  }

  /** The same, their passes on the timeline. */
  private timed(handlers: Handlers): Handlers {
    const { timeline } = this
    if (timeline === undefined) return handlers
    const timed = (kind: 'forward' | 'backward') => (stage: number, microBatch: number) => {
      const pass = () => handlers[kind](stage, microBatch)
      return timeline.during('pass', `${kind} ${microBatch}`, pass, { stage, microBatch })
    }
    return { ...handlers, forward: timed('forward'), backward: timed('backward') }
  }

  /** What all ranks together have found. */
  private async summarize(loss: number, samples: number, times: Times): Promise<PipelineStepResult> {
    // A replica's samples count once, and its loss on one of the ranks that share the last stage.
    const { pp, tp } = this.plan.mesh
    const [own, counted] = tp.rank === 0 ? [loss, pp.rank === 0 ? samples : 0] : [0, 0]
    const found = Float64Array.of(own, counted, times.computing, times.all)
    const all = this.links.size > 1 ? ((await this.links.allGather(found)) as Float64Array) : found
    const column = (at: number) => [...all.filter((_, i) => i % found.length === at)]
    const [losses, counts, computeMs, wholeMs] = [0, 1, 2, 3].map(column) as [
      number[],
      number[],
      number[],
      number[],
    ]
    const total = sumOf(counts)
    return {
      loss: sumOf(losses) / total,
      samples: total,
      bubbleFraction: Math.max(0, 1 - sumOf(computeMs) / (computeMs.length * Math.max(...wholeMs))),
      computeMs,
    }
  }

  /** Every rank sees the same sum, so every rank comes here at the same step. */
  private async notFinite(own: number): Promise<LockstepError> {
    const losses = [...(await this.links.allGather(Float64Array.of(own)))]
    const { pp, tp } = this.plan.mesh
    const where = losses.flatMap((loss, rank) =>
      Number.isFinite(loss)
        ? []
        : [`rank ${rank} (replica ${Math.floor(rank / pp.size / tp.size)}, ${loss})`],
    )
    return new LockstepError(
      `the loss of step ${this.steps + 1} is not finite on ${where.join(', ')}: lower the learning rate, or look for NaN ` +
        'and infinities in that batch; parameters are as before this step',
    )
  }
}

const sumOf = (numbers: readonly number[]) => numbers.reduce((sum, n) => sum + n, 0)
