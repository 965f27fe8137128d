/**
 * Where a model is cut into stages: by hand, or balanced by layers, parameters or time. Only between two calls where one
 * float tensor crosses. Pure arithmetic on a model's graph; it measures nothing.
 */
import type { SymbolicTensor } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import { crossing, type LayerGraph } from './layer-graph.js'

/**
 * `parameters`, `layers` or `time`: as equal as may be in these; or the names of the layers after which to cut, in order,
 * one less than there are stages.
 */
export type Stages = Balance | readonly string[]
export type Balance = (typeof BALANCES)[number]

const BALANCES = ['parameters', 'layers', 'time'] as const

/** Positions of the calls after which a single float tensor crosses, whole, in ascending order. */
export function possibleCuts(graph: LayerGraph): number[] {
  return graph.calls.slice(0, -1).flatMap((_, at) => {
    const [tensor, ...others] = crossing(graph, at)
    if (others.length > 0 || tensor!.dtype !== 'float32' || graph.split?.(tensor!) === 'units') return []
    return [at]
  })
}

/** @throws LockstepError for something that is neither a way to balance nor a list of names. */
export function checkStages(stages: unknown): asserts stages is Stages {
  if (Array.isArray(stages) && stages.every((name) => typeof name === 'string')) return
  if ((BALANCES as readonly unknown[]).includes(stages)) return
  throw new LockstepError(
    `stages is ${JSON.stringify(stages)}: expected ${BALANCES.join(', ')}, or the names of the layers to cut after`,
  )
}

/**
 * The calls after which to cut, by names of layers.
 * @throws LockstepError: not one name less than stages, an unknown name, not in order, or a cut where it is not one
 *   tensor that crosses, naming those that do and the nearest place
 */
export function cutsByName(graph: LayerGraph, names: readonly string[], stages: number): number[] {
  if (names.length !== stages - 1)
    throw new LockstepError(
      `stages names ${names.length} layers to cut after, which makes ${names.length + 1} stages: expected ` +
        `${stages - 1} names for ${stages} stages (ranks of the pipeline * stages on each)`,
    )
  const possible = possibleCuts(graph)
  const cuts = names.map((name) => {
    const at = graph.calls.findLastIndex(({ layer }) => layer.name === name)
    if (at === -1)
      throw new LockstepError(
        `stages names layer ${JSON.stringify(name)}, which the model has not: expected some of ${namesAt(graph, possible)}`,
      )
    if (!possible.includes(at)) throw refusal(graph, at, possible)
    return at
  })
  cuts.forEach((at, i) => {
    if (i > 0 && at <= cuts[i - 1]!)
      throw new LockstepError(
        `stages names layer ${names[i]} after ${names[i - 1]}, which comes later in the model: name them in its order`,
      )
  })
  return cuts
}

function refusal(graph: LayerGraph, at: number, possible: readonly number[]): LockstepError {
  const tensors = crossing(graph, at)
  const { layer } = graph.calls[at]!
  const nearest = possible.toSorted((a, b) => Math.abs(a - at) - Math.abs(b - at))[0]
  const instead =
    nearest === undefined ? '' : `; the nearest such place is after ${graph.calls[nearest]!.layer.name}`
  const after =
    at === graph.calls.length - 1
      ? 'nothing'
      : tensors.length === 1 && graph.split?.(tensors[0]!) === 'units'
        ? `split over ranks (${describe(tensors[0]!)})`
        : `${tensors.length} (${tensors.map(describe).join(', ')})`
  return new LockstepError(
    `the model cannot be cut after layer ${layer.name}: expected one float tensor to cross there, and it is ${after}${instead}`,
  )
}

const describe = ({ sourceLayer, dtype, shape }: SymbolicTensor) =>
  `the output of ${sourceLayer.name}, ${dtype}[${shape.map((n) => n ?? 'any')}]`

function namesAt({ calls }: LayerGraph, cuts: readonly number[]): string {
  return cuts.map((at) => calls[at]!.layer.name).join(', ')
}

/**
 * The calls after which to cut so that the heaviest stage is as light as it can be, and the others, among such cuts, as
 * equal as they can be.
 * @param weights of each call
 * @throws LockstepError when the model has fewer places to cut than that takes
 */
export function balancedCuts(graph: LayerGraph, weights: readonly number[], stages: number): number[] {
  const possible = possibleCuts(graph)
  if (possible.length < stages - 1)
    throw new LockstepError(
      `the model cannot be cut into ${stages} stages (ranks of the pipeline * stages on each): it has ` +
        `${graph.calls.length} layers, and a single tensor crosses at ${possible.length} of the places between them, ` +
        `which makes at most ${possible.length + 1}: use fewer ranks, or a deeper model`,
    )
  const borders = [...possible, graph.calls.length - 1]
  const sums = [0]
  for (const weight of weights) sums.push(sums.at(-1)! + weight)
  const between = (from: number, to: number) =>
    sums[borders[to]! + 1]! - (from < 0 ? 0 : sums[borders[from]! + 1]!)
  // best[i]: of the calls up to border i in so many stages.
  let best = borders.map((_, i): Plan => single(between(-1, i)))
  for (let count = 2; count <= stages; count++) {
    best = borders.map((_, i) => {
      const plans = best
        .slice(0, i)
        .flatMap((plan, from) => (plan ? [extended(plan, between(from, i), from)] : []))
      return plans.length === 0 ? undefined : plans.reduce((a, b) => (isBetter(b!, a!) ? b : a))
    })
  }
  return best.at(-1)!.ends.map((border) => borders[border]!)
}

type Plan = { readonly most: number; readonly squares: number; readonly ends: readonly number[] } | undefined

const single = (weight: number): Plan => ({ most: weight, squares: weight ** 2, ends: [] })

const extended = (plan: NonNullable<Plan>, weight: number, from: number): Plan => ({
  most: Math.max(plan.most, weight),
  squares: plan.squares + weight ** 2,
  ends: [...plan.ends, from],
})

const isBetter = (a: NonNullable<Plan>, b: NonNullable<Plan>) =>
  a.most < b.most || (a.most === b.most && a.squares < b.squares)
