/** This rank's stages: their parts of its buffers, and what has been compiled for them. They send nothing. */
import type { Recompute } from '../../compiler/recompute-cuts.js'
import type { SessionOptions } from '../../compiler/session.js'
import type { Input } from '../batch.js'
import type { Parameters } from '../parameters.js'
import type { Plan } from './plan.js'
import { mostInFlight } from './schedules.js'
import { boundaryShape, type Stage } from './stage.js'
import { type StageBuffers, stageBuffers } from './stage-buffers.js'
import { StageInference } from './stage-inference.js'
import { StageTraining } from './stage-training.js'

interface OwnStage {
  readonly stage: Stage
  readonly buffers: StageBuffers
  readonly inference: StageInference
  /** By the micro-batches' shapes. */
  readonly training: Map<string, Promise<StageTraining>>
}

export function stagesOn({ stages, mesh }: Plan): Stage[] {
  return stages.filter(({ number }) => number % mesh.pp.size === mesh.pp.rank)
}

export class OwnStages {
  private readonly stages: readonly OwnStage[]
  /** By the stages' numbers. */
  readonly inferences: ReadonlyMap<number, StageInference>

  /** @param parameters of all of this rank's stages */
  constructor(
    private readonly plan: Plan,
    parameters: Parameters,
    private readonly session: SessionOptions,
    private readonly recompute?: Recompute,
  ) {
    const own = stagesOn(plan)
    const buffers = stageBuffers(own, parameters)
    this.stages = own.map((stage, i) => ({
      stage,
      buffers: buffers[i]!,
      inference: new StageInference(stage, buffers[i]!, plan.losses, session),
      training: new Map(),
    }))
    this.inferences = new Map(this.stages.map(({ stage, inference }) => [stage.number, inference]))
  }

  /** The names of their layers, one list for each. */
  get layers(): readonly (readonly string[])[] {
    return this.stages.map(({ stage }) => stage.layers.map(({ name }) => name))
  }

  /** The most micro-batches that any of them has kept between forward and backward pass. */
  async mostInFlight(): Promise<number> {
    const all = await Promise.all(this.stages.flatMap(({ training }) => [...training.values()]))
    return Math.max(0, ...all.map((training) => training.mostInFlight))
  }

  /** By the stages' numbers, for a step with micro-batches like these. */
  async trainings(x: readonly Input[], y: readonly Input[]): Promise<ReadonlyMap<number, StageTraining>> {
    const { plan, session, recompute } = this
    const samples = x[0]!.spec.shape[0]!
    const key = [...x, ...y].map(({ spec }) => `${spec.dtype}[${spec.shape}]`).join()
    const compiled = new Map<number, StageTraining>()
    for (const { stage, buffers, training } of this.stages) {
      let made = training.get(key)
      if (made === undefined) {
        const before = stage.isFirst ? undefined : boundaryShape(plan.stages[stage.number - 1]!, samples)
        const cutting =
          recompute === undefined
            ? undefined
            : { recompute, inFlight: mostInFlight(plan.actions, stage.number) }
        made = StageTraining.compile(stage, buffers, plan.losses, { x, y, before }, session, cutting)
        made.catch(() => training.delete(key))
        training.set(key, made)
      }
      const ready = await made
      ready.begin()
      compiled.set(stage.number, ready)
    }
    return compiled
  }

  async release(): Promise<void> {
    for (const { inference, training } of this.stages) {
      await inference.release()
      for (const compiled of training.values()) await (await compiled).release()
      training.clear()
    }
  }
}
