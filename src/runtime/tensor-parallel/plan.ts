/** Which layers of a model are split, and how. It changes no layer. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import type { Optimizer } from '../optimizers/optimizer.js'
import { type Layer, type Style, styles } from './styles.js'

/** Layers by name, where `*` stands for anything: `{ 'block*_up': 'column', 'block*_down': 'row' }`. */
export type SplitPlan = Readonly<Record<string, Style>>

/** @throws LockstepError naming the layer that the plan cannot split. */
export function plannedLayers(model: LayersModel, plan: SplitPlan, ranks: number): ReadonlyMap<Layer, Style> {
  const planned = new Map<Layer, Style>()
  for (const [pattern, style] of Object.entries(plan)) {
    if (!Object.hasOwn(styles, style))
      throw new LockstepError(
        `the plan says ${JSON.stringify(style)} of ${pattern}: expected ${Object.keys(styles).join(', ')}`,
      )
    const layers = model.layers.filter(({ name }) => matches(pattern, name))
    if (layers.length === 0)
      throw new LockstepError(
        `the plan names ${pattern}, and the model has no such layer${whatThereIs(model)}`,
      )
    for (const layer of layers) {
      styles[style].check(layer, ranks)
      refuseWholeWeightRules(layer)
      planned.set(layer, style)
    }
  }
  if (planned.size === 0) throw new LockstepError('the plan is empty: name layers to split, as in GPT_PLAN')
  return planned
}

/** Layers that ranks can share, or why there are none. */
function whatThereIs(model: LayersModel): string {
  const able = model.layers.filter((layer) => canSplit(layer))
  const isDense = (layer: Layer) => layer.getClassName() === 'Dense'
  if (able.length > 1 || able.some((layer) => !isDense(layer)))
    return `: expected some of ${able.map(({ name }) => name).join(', ')}`
  const kinds = new Set(
    model.layers.filter(({ weights }) => weights.length > 0).map((layer) => layer.getClassName()),
  )
  return (
    `, nor any to share: expected dense layers one after the other, attention or an embedding, and it has ${[...kinds].join(', ')}; ` +
    'take world.ddp with zero, or world.pipeline'
  )
}

function canSplit(layer: Layer): boolean {
  return (['column', 'heads', 'vocabulary'] as const).some((style) => {
    try {
      styles[style].check(layer, 1)
      return true
    } catch {
      return false
    }
  })
}

/** @throws LockstepError for one that would need more than slices of weights. */
export function checkOptimizer({ name, granularity }: Optimizer, tp: number): void {
  if (tp === 1 || granularity === 'element') return
  throw new LockstepError(
    `optimizer ${name} takes norms over whole ${granularity}s, of which a rank holds slices with tp ${tp}: use one that works ` +
      'by elements (sgd, momentum, adam, adamw, lion, adagrad, rmsprop), without clipByGlobalNorm',
  )
}

function matches(pattern: string, name: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`).test(name)
}

/** Regularizers and constraints take norms of weights, of which each rank would see a slice. */
const RULES = [
  'kernelRegularizer',
  'biasRegularizer',
  'activityRegularizer',
  'kernelConstraint',
  'biasConstraint',
]

function refuseWholeWeightRules(layer: Layer): void {
  const rule = RULES.find((name) => (layer as unknown as Record<string, unknown>)[name])
  if (rule === undefined) return
  throw new LockstepError(
    `layer ${layer.name} cannot be split: its ${rule} needs whole weights; leave it out of the plan, or the ${rule} away`,
  )
}
