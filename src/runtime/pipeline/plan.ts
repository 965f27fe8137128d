/**
 * Who does what in a pipeline: options checked, the model cut, stages dealt out to ranks. The same on every rank, from the
 * same model and options. It trains nothing.
 */
import { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../collectives/communicator.js'
import type { SessionOptions } from '../../compiler/session.js'
import { LockstepError } from '../../errors.js'
import { type Loss, type LossFunction, type LossName, lossOf } from '../losses.js'
import { type Mesh, meshOf } from '../mesh.js'
import { type Model, modelOf } from '../model.js'
import type { Placement } from '../placement.js'
import { requireSame } from '../require-same.js'
import type { SplitPlan } from '../tensor-parallel/plan.js'
import { SplitModel } from '../tensor-parallel/split-model.js'
import { balancedCuts, checkStages, cutsByName, type Stages } from './cuts.js'
import { type LayerGraph, layerGraph } from './layer-graph.js'
import { measureCalls } from './measure.js'
import { type Action, checkSchedule, type ScheduleName, scheduleOf } from './schedules.js'
import { type Stage, stagesOf } from './stage.js'

export interface PlanOptions {
  /** By name, or a function of (labels, predictions) with the batch's mean; for several outputs one for all or for each. */
  readonly loss: LossName | LossFunction | readonly (LossName | LossFunction)[]
  /** Equal parts in which a batch goes through the stages. */
  readonly microBatches: number
  readonly schedule?: ScheduleName
  /** Where to cut: balanced by `parameters` (default), `layers` or `time`, or names of the layers to cut after. */
  readonly stages?: Stages
  /** With schedule `interleaved`; 2 by default. */
  readonly stagesPerRank?: number
  /** Pipelines beside each other, each with samples of its own. */
  readonly dp?: number
  /** Ranks that share each stage's layers, which `plan` says how (tensor parallelism, as `world.tensorParallel`). */
  readonly tp?: number
  readonly plan?: SplitPlan
}

export interface Plan {
  readonly mesh: Mesh
  /** As this rank computes it. */
  readonly model: Model
  /** Of all parameters of the whole model, in model order. */
  readonly placements: readonly Placement[]
  readonly losses: readonly Loss[]
  /** Of the whole model; rank p of a pipeline has those whose number is p modulo its ranks. */
  readonly stages: readonly Stage[]
  /** This rank's part of a step. */
  readonly actions: readonly Action[]
  /** Frees what this rank's slices of split layers took. */
  release(): void
}

/** All ranks must call it together. @throws LockstepError for options that contradict each other, the model or the world. */
export async function planOf(
  links: Communicator,
  source: LayersModel,
  options: PlanOptions,
  session: SessionOptions,
): Promise<Plan> {
  const { schedule = '1f1b', stages = 'parameters', microBatches, dp = 1, tp = 1, plan } = options
  const { stagesPerRank = schedule === 'interleaved' ? 2 : 1 } = options
  if (!(source instanceof LayersModel))
    throw new LockstepError(
      'pipeline() was given something that is no TensorFlow.js layers model (tf.sequential, tf.model): functional code ' +
        'has no layers to cut between; use world.ddp()',
    )
  const pp = links.size / dp / tp
  if (!Number.isInteger(pp))
    throw new LockstepError(
      `world size (${links.size}) != dp (${dp}) * pp * tp (${tp}): expected a product that divides it; change dp, tp, or ` +
        "ddp-launch's --nproc",
    )
  if (tp > 1 && plan === undefined)
    throw new LockstepError(`tp is ${tp} without a plan: say which layers are split, as in GPT_PLAN`)
  const shape = { ranks: pp, stagesPerRank, microBatches }
  checkSchedule(schedule, shape)
  checkStages(stages)
  const losses = [options.loss].flat().map((loss) => lossOf(loss))
  const whole = modelOf(source, losses)
  const mesh = meshOf(links, { dp, pp, tp })
  const split = tp > 1 ? new SplitModel(source, plan!, mesh.tp) : undefined
  const layers = layerGraph(source)
  const graph: LayerGraph = split ? { ...layers, split: (tensor) => split.partsOf(tensor)?.along } : layers
  const cuts = await cutsOf(links, graph, whole, stages, pp * stagesPerRank, session)
  await requireSame(links, 'the pipeline', `${schedule} ${microBatches} ${cuts}`)
  const model = split?.derive(whole) ?? whole
  const all = stagesOf(graph, model.parameters, cuts, split)
  return {
    mesh,
    model,
    placements: placementsOf(whole, all, pp, split),
    losses: split?.losses(losses) ?? losses,
    stages: all,
    actions: scheduleOf(schedule, shape, mesh.pp.rank),
    release: () => split?.dispose(),
  }
}

/** @throws LockstepError for a weight that two stages on one rank share. */
function placementsOf(
  { parameters }: Model,
  stages: readonly Stage[],
  pp: number,
  split: SplitModel | undefined,
): Placement[] {
  const splits = split?.splitsOf(parameters)
  return parameters.map((parameter, i) => {
    const holding = stages.filter((stage) => stage.parameters.some(({ name }) => name === parameter.name))
    const owners = holding.map(({ number }) => number % pp)
    const again = owners.findIndex((owner, at) => owners.indexOf(owner) < at)
    if (again >= 0)
      throw new LockstepError(
        `weight ${parameter.name} is used in stages ${holding.map(({ number }) => number).join(' and ')}, of which two are on ` +
          `rank ${owners[again]} of a pipeline: expected tied weights in one stage or on several ranks; cut the model ` +
          'elsewhere (stages: [names of layers])',
      )
    return { parameter, owners: owners.length > 0 ? owners : [0], split: splits?.[i] }
  })
}

async function cutsOf(
  links: Communicator,
  graph: LayerGraph,
  { parameters }: Model,
  stages: Stages,
  count: number,
  session: SessionOptions,
): Promise<number[]> {
  if (typeof stages !== 'string') return cutsByName(graph, stages, count)
  if (stages === 'layers')
    return balancedCuts(
      graph,
      graph.calls.map(() => 1),
      count,
    )
  if (stages === 'time') {
    const weights = new Float64Array(graph.calls.length)
    if (links.rank === 0) weights.set(await measureCalls(graph, parameters, session))
    if (links.size > 1) await links.broadcast(weights, 0)
    return balancedCuts(graph, [...weights], count)
  }
  const floats = graph.calls.map(({ layer }) =>
    layer.weights.reduce((sum, { shape }) => sum + shape.reduce<number>((a, b) => a * (b ?? 1), 1), 0),
  )
  return balancedCuts(graph, floats, count)
}
