/** Which meshes fit into a rank's memory, and which of them to take. */
import { LockstepError } from '../../errors.js'
import { SplitModel } from '../tensor-parallel/split-model.js'
import { type Estimate, Estimator } from './estimate.js'
import { paperRank } from './paper.js'
import { isLayersModel } from './passes.js'
import type { PlanSubject } from './subject.js'

export interface TrainingPlan {
  readonly batch: number
  /** What each rank may take, in bytes. */
  readonly limit: number
  /** All that could be, the best first; those that fit before those that do not. */
  readonly meshes: readonly (Estimate & { readonly fits: boolean })[]
  readonly recommended: Estimate
}

const MOST_RANKS = 1024

/** @throws LockstepError when nothing fits, with the least memory and the fewest ranks that would do. */
export async function planFor(
  file: string,
  subject: PlanSubject,
  { ranks, limit, batch }: { readonly ranks: number; readonly limit: number; readonly batch: number },
): Promise<TrainingPlan> {
  checkSplits(file, subject)
  const estimator = new Estimator(subject, batch)
  const estimates = async (count: number) => {
    const found: Estimate[] = []
    for (const mesh of estimator.meshes(count)) {
      const estimate = await estimator.estimate(mesh)
      if (estimate) found.push(estimate)
    }
    return found
  }
  const fits = ({ memory }: Estimate) => memory.total <= limit
  const all = (await estimates(ranks)).toSorted(byPreference)
  const [recommended] = all.filter(fits)
  if (recommended !== undefined) {
    const meshes = [...all.filter(fits), ...all.filter((each) => !fits(each))]
    return { batch, limit, recommended, meshes: meshes.map((each) => ({ ...each, fits: fits(each) })) }
  }
  if (all.length === 0)
    throw new LockstepError(
      `plan: ${file}: a batch of ${batch} cannot be shared by ${ranks} ranks: expected --batch to be a multiple of --ranks`,
    )
  const least = all.reduce((a, b) => (b.memory.total < a.memory.total ? b : a))
  let more = 2 * ranks
  while (more <= Math.min(MOST_RANKS, batch) && !(await estimates(more)).some(fits)) more *= 2
  const other = more <= Math.min(MOST_RANKS, batch) ? `, or --ranks ${more}` : ''
  throw new LockstepError(
    `plan: ${file} does not fit into ${formatBytes(limit)} on any of ${ranks} ranks with a batch of ${batch}: the least is ` +
      `${formatBytes(least.memory.total)} with ${describe(least)}; give --memory ${formatBytes(least.memory.total, Math.ceil)}${other}`,
  )
}

/** A plan that so many ranks cannot follow is one mesh less; one that nobody can is a mistake. */
function checkSplits(file: string, subject: PlanSubject): void {
  const { model, plan } = subject
  if (!plan) return
  try {
    if (!isLayersModel(model))
      throw new LockstepError('a functional model has no layers to split: leave plan out')
    new SplitModel(model, plan, paperRank(0, 1))
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error
    throw new LockstepError(`plan: ${file}: ${error.message}`, { cause: error })
  }
}

/** What costs least first: no idle time and nothing to wait for in a pass, then what sends fewer bytes. */
function byPreference(a: Estimate, b: Estimate): number {
  return kind(a) - kind(b) || a.zero - b.zero || a.bubble - b.bubble || a.bytesPerStep - b.bytesPerStep
}

/** By what a pass waits for: nothing; sums in each layer; other stages; gradients and parameters of each unit of layers. */
function kind({ pp, tp, zero }: Estimate): number {
  if (zero >= 2) return zero + 1
  return pp > 1 ? 2 : Number(tp > 1)
}

export function describe({ dp, pp, tp, zero, microBatches }: Estimate): string {
  const parts = Object.entries({ dp, pp, tp }).filter(([, ranks]) => ranks > 1)
  const mesh = parts.map(([name, ranks]) => `${name} ${ranks}`)
  const rest = [...(zero > 0 ? [`zero ${zero}`] : []), ...(pp > 1 ? [`${microBatches} micro-batches`] : [])]
  return [...mesh, ...rest].join(', ') || 'one rank'
}

/** The call that trains so. */
export function callFor({ dp, pp, tp, zero, microBatches }: Estimate): string {
  const state = zero > 0 ? `, zero: ${zero}` : ''
  const split = tp > 1 ? `, tp: ${tp}, plan` : ''
  if (pp > 1)
    return `world.pipeline(model, { loss, optimizer, microBatches: ${microBatches}${dp > 1 ? `, dp: ${dp}` : ''}${split}${state} })`
  return `world.${tp > 1 ? 'tensorParallel' : 'ddp'}(model, { loss, optimizer${split}${state} })`
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** `1.5GiB`, as --memory takes it. */
export function formatBytes(bytes: number, round: (n: number) => number = Math.round): string {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)))
  return `${round((bytes / 1024 ** power) * 100) / 100}${UNITS[power]}`
}
