/** One GPT on the same global batches, by any kind of parallelism: what each rank saw. */
import { GPT_PLAN, type GptOptions, gpt } from '../../src/models/gpt.js'
import { adam, type Optimizer } from '../../src/runtime/optimizers/index.js'
import type { ScheduleName } from '../../src/runtime/pipeline/schedules.js'
import type { SplitPlan } from '../../src/runtime/tensor-parallel/plan.js'
import type { World } from '../../src/runtime/world.js'
import type { ZeroLevel } from '../../src/runtime/zero/level.js'

export interface Job {
  readonly shape: Required<Pick<GptOptions, 'vocabulary' | 'context'>> & GptOptions
  /** Sequences a step, over all ranks. */
  readonly batch: number
  readonly steps: number
}

export interface Way {
  readonly pp?: number
  readonly tp?: number
  readonly zero?: ZeroLevel
  readonly schedule?: ScheduleName
  readonly microBatches?: number
  readonly plan?: SplitPlan
  readonly optimizer?: Optimizer
}

/** Sequences `from` … `to` - 1 of an endless text in which each token follows from the one before. */
export function sequences({ shape: { context, vocabulary } }: Job, from: number, to: number) {
  const token = (at: number) => (at * 5) % vocabulary
  const [x, y] = [0, 1].map((shift) => ({
    data: Int32Array.from({ length: (to - from) * context }, (_, i) => token(from * context + i + shift)),
    shape: [to - from, context],
  }))
  return { x: x!, y: y! }
}

export async function makeTrainer(world: World, { shape }: Job, way: Way) {
  const { pp = 1, tp = 1, zero = 0, schedule = '1f1b', microBatches = 4, plan = GPT_PLAN } = way
  const { optimizer = adam(0.01) } = way
  // Ranks that were not given rank 0's weights would show.
  const model = gpt({ ...shape, seed: (shape.seed ?? 1) + world.rank })
  const common = { loss: 'softmaxCrossEntropy', optimizer, zero } as const
  const dp = world.size / pp / tp
  if (pp > 1) {
    const rest = { schedule, microBatches, dp, tp, plan, zero: zero as 0 | 1 }
    return world.pipeline(model, { ...common, ...rest })
  }
  if (tp > 1) return world.tensorParallel(model, { ...common, tp, plan })
  return world.ddp(model, common)
}

export type Trainer = Awaited<ReturnType<typeof makeTrainer>>

export function replicaOf(world: World, trainer: Trainer) {
  return 'replica' in trainer ? trainer.replica : { rank: world.rank, size: world.size }
}

/** Takes the steps up to `job.steps`. @returns their losses */
export async function takeSteps(world: World, trainer: Trainer, job: Job): Promise<number[]> {
  const { rank, size } = replicaOf(world, trainer)
  const share = job.batch / size
  const losses: number[] = []
  while (trainer.stepCount < job.steps) {
    const from = trainer.stepCount * job.batch + rank * share
    const { x, y } = sequences(job, from, from + share)
    losses.push((await trainer.step(x, y)).loss)
  }
  return losses
}

/** The largest relative difference of two series of losses. */
export function furthest(given: readonly number[], expected: readonly number[]): number {
  if (given.length !== expected.length) return Number.POSITIVE_INFINITY
  return Math.max(...given.map((loss, i) => Math.abs(loss / expected[i]! - 1)))
}
