/** What training takes on each rank of a mesh, on paper: bytes by what they are for, what is sent in a step, idle time. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import { bytesOfState } from '../layout.js'
import type { Model, Parameter } from '../model.js'
import { optimizerOf } from '../optimizers/from-tensorflow.js'
import { adam, type Optimizer } from '../optimizers/index.js'
import { planOf } from '../pipeline/plan.js'
import { boundaryShape, type Stage } from '../pipeline/stage.js'
import { BUCKET_BYTES } from '../steps/choose-exchange.js'
import type { ZeroLevel } from '../zero/level.js'
import { paperRank } from './paper.js'
import {
  activationBytes,
  allReduceBytes,
  isLayersModel,
  type Pass,
  partOfPass,
  passOf,
  rankModel,
} from './passes.js'
import type { PlanSubject } from './subject.js'

export interface Mesh {
  readonly dp: number
  readonly pp: number
  readonly tp: number
  readonly zero: ZeroLevel
  /** Equal parts in which a replica's samples go through the stages; 1 without stages. */
  readonly microBatches: number
}

/** Of the rank with the most. */
export interface Memory {
  readonly parameters: number
  /** With pipelines also their sums over micro-batches. */
  readonly gradients: number
  readonly optimizer: number
  /** What a pass keeps and needs besides, in onnxruntime's arena. */
  readonly activations: number
  /** The TensorFlow.js model's own weights, which every rank has whole. */
  readonly model: number
  readonly total: number
}

export interface Estimate extends Mesh {
  readonly memory: Memory
  /** What the rank that sends most sends in a step. */
  readonly bytesPerStep: number
  /** Idle share of the ranks' time with equal stages. */
  readonly bubble: number
}

/** Places that a unit travels through beside the one that is computed, as over a network: in shared memory it is one less. */
const TURNS = 2

export class Estimator {
  private readonly optimizer: Optimizer
  private readonly models = new Map<number, Model>()
  private readonly passes = new Map<string, Pass>()

  /** @param batch samples of a step on all ranks together */
  constructor(
    private readonly subject: PlanSubject,
    private readonly batch: number,
  ) {
    this.optimizer = optimizerOf(subject.optimizer ?? adam(1e-3))
  }

  /** Every mesh that so many ranks make, as far as batch, layers and optimizer allow. */
  meshes(ranks: number): Mesh[] {
    const { subject, batch, optimizer } = this
    const divisors = Array.from({ length: ranks }, (_, i) => i + 1).filter((n) => ranks % n === 0)
    const byElement = (optimizer.givenNorm ?? optimizer.granularity) === 'element'
    return divisors.flatMap((tp) =>
      divisors
        .filter((pp) => (ranks / tp) % pp === 0)
        .flatMap((pp): Mesh[] => {
          const dp = ranks / tp / pp
          const samples = batch / dp
          if (!Number.isInteger(samples)) return []
          if (tp > 1 && (subject.plan === undefined || optimizer.granularity !== 'element')) return []
          if (tp * pp > 1 && !isLayersModel(subject.model)) return []
          const levels: ZeroLevel[] = tp * pp === 1 ? [0, 1, 2, 3] : [0, 1]
          const microBatches = pp === 1 ? 1 : largestDivisor(samples, 4 * pp)
          return levels
            .filter((zero) => zero === 0 || (dp > 1 && byElement))
            .map((zero) => ({ dp, pp, tp, zero, microBatches }))
        }),
    )
  }

  /** @returns undefined where the model cannot be shared or cut so. */
  async estimate(mesh: Mesh): Promise<Estimate | undefined> {
    try {
      return await (mesh.pp === 1 ? this.unstaged(mesh) : this.staged(mesh))
    } catch (error) {
      // Data parallelism takes every model that trains at all.
      if (mesh.pp * mesh.tp > 1 && error instanceof LockstepError) return undefined
      throw error
    }
  }

  private async unstaged(mesh: Mesh): Promise<Estimate> {
    const { dp, tp } = mesh
    const pass = await this.pass(tp, this.batch / dp)
    const state = this.state(this.model(tp).parameters, mesh)
    const rounds = mesh.zero === 3 ? 3 : 2
    const reduced = (allReduceBytes(state.reduced, dp) * rounds) / 2
    return {
      ...mesh,
      memory: this.memory(state, activationBytes(pass)),
      bytesPerStep: reduced + sumOf(pass.exchanges.map(({ bytes }) => allReduceBytes(bytes, tp))),
      bubble: 0,
    }
  }

  private async staged(mesh: Mesh): Promise<Estimate> {
    const { dp, pp, tp, microBatches } = mesh
    const samples = this.batch / dp / microBatches
    const pass = await this.pass(tp, samples)
    const stages = await this.stages(mesh)
    const border = (stage: Stage | undefined) =>
      stage === undefined || stage.isLast ? 0 : 4 * boundaryShape(stage, samples).reduce((a, b) => a * b, 1)
    const ranks = stages.map((stage, i) => {
      const names = new Set(stage.layers.map(({ name }) => name))
      const own = partOfPass(pass, names, stage.isLast)
      const inFlight = Math.min(microBatches, pp - i)
      const [before, after] = [border(stages[i - 1]), border(stage)]
      const state = this.state(stage.parameters, mesh)
      // What came from the stage before is kept with the rest; gradients come and go.
      const buffers = before * (inFlight + 1) + after
      const sums = sumOf(own.exchanges.map(({ bytes }) => allReduceBytes(bytes, tp)))
      return {
        memory: this.memory(state, activationBytes(own, inFlight) + buffers),
        sent: microBatches * (before + after + sums) + allReduceBytes(state.reduced, dp),
      }
    })
    const fullest = ranks.reduce((a, b) => (b.memory.total > a.memory.total ? b : a))
    return {
      ...mesh,
      memory: fullest.memory,
      bytesPerStep: Math.max(...ranks.map(({ sent }) => sent)),
      bubble: (pp - 1) / (microBatches + pp - 1),
    }
  }

  private memory(
    { parameters, gradients, optimizer }: ReturnType<typeof bytesOfState>,
    activations: number,
  ): Memory {
    const model = 4 * sumOf(this.model(1).parameters.map(({ variable }) => variable.size))
    const parts = { parameters, gradients, optimizer, activations, model }
    return { ...parts, total: sumOf(Object.values(parts)) }
  }

  private state(parameters: readonly Parameter[], { dp, zero }: Mesh) {
    const sharding = {
      level: zero,
      rank: 0,
      size: zero === 0 ? 1 : dp,
      unitFloats: BUCKET_BYTES / 4,
      turns: TURNS,
    } as const
    return bytesOfState(parameters, this.optimizer.slots.length, sharding)
  }

  private async stages({ dp, pp, tp, microBatches }: Mesh): Promise<readonly Stage[]> {
    const { model, loss, plan } = this.subject
    const links = paperRank(0, dp * pp * tp)
    const options = { loss: loss ?? [], microBatches, dp, tp, ...(plan && { plan }) }
    return (await planOf(links, model as LayersModel, options, { threads: 1 })).stages
  }

  private model(tp: number): Model {
    const known = this.models.get(tp) ?? rankModel(this.subject, tp)
    this.models.set(tp, known)
    return known
  }

  private async pass(tp: number, samples: number): Promise<Pass> {
    const key = `${tp} ${samples}`
    const known = this.passes.get(key) ?? (await passOf(this.model(tp), this.subject, samples))
    this.passes.set(key, known)
    return known
  }
}

function largestDivisor(n: number, most: number): number {
  for (let divisor = Math.min(n, most); divisor > 1; divisor--) if (n % divisor === 0) return divisor
  return 1
}

const sumOf = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0)
