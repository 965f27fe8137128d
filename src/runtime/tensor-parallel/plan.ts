/** Which layers of a model are split, and whether what they leave split is put together again. It changes no layer. */
import type { LayersModel } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import type { Optimizer } from '../optimizers/optimizer.js'
import { type Layer, type Style, styles } from './styles.js'

/** Layers by name, where `*` stands for anything: `{ 'block*_up': 'column', 'block*_down': 'row' }`. */
export type SplitPlan = Readonly<Record<string, Style>>

export interface PlannedLayers {
  readonly planned: ReadonlyMap<Layer, Style>
  /** Of whose outputs each rank has a part. */
  readonly inParts: ReadonlySet<Layer>
}

/** @throws LockstepError naming the layer that the plan cannot split, or that it leaves without its whole input. */
export function plannedLayers(model: LayersModel, plan: SplitPlan, ranks: number): PlannedLayers {
  const planned = new Map<Layer, Style>()
  for (const [pattern, style] of Object.entries(plan)) {
    if (!Object.hasOwn(styles, style))
      throw new LockstepError(
        `the plan says ${JSON.stringify(style)} of ${pattern}: expected ${Object.keys(styles).join(', ')}`,
      )
    const layers = model.layers.filter(({ name }) => matches(pattern, name))
    if (layers.length === 0)
      throw new LockstepError(
        `the plan names ${pattern}, and the model has no such layer: expected some of ${model.layers.map(({ name }) => name).join(', ')}`,
      )
    for (const layer of layers) {
      styles[style].check(layer, ranks)
      refuseWholeWeightRules(layer)
      planned.set(layer, style)
    }
  }
  if (planned.size === 0) throw new LockstepError('the plan is empty: name layers to split, as in GPT_PLAN')
  return { planned, inParts: checkFlow(model, planned) }
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

/** Layers that compute each number from those at its own place: split input, split output. */
const ELEMENTWISE = new Set([
  'Activation',
  'Add',
  'AlphaDropout',
  'Average',
  'Dropout',
  'ELU',
  'GaussianDropout',
  'GaussianNoise',
  'LeakyReLU',
  'Maximum',
  'Minimum',
  'Multiply',
  'ReLU',
  'ThresholdedReLU',
])

function isElementwise(layer: Layer): boolean {
  const { activation } = layer as { activation?: { getClassName(): string } }
  return ELEMENTWISE.has(layer.getClassName()) && !/softmax/i.test(activation?.getClassName() ?? '')
}

/** Follows values that lie in parts on the ranks to the layers that put them together. @returns whose outputs those are */
function checkFlow(model: LayersModel, planned: ReadonlyMap<Layer, Style>): ReadonlySet<Layer> {
  /** The column-parallel layer that a layer's output comes from in parts. */
  const partsFrom = new Map<Layer, Layer>()
  // model.layers is in the order of computing.
  for (const layer of model.layers) {
    const style = planned.get(layer)
    const before = layer.inboundNodes.flatMap(({ inboundLayers }) => inboundLayers)
    const sources = before.map((each) => partsFrom.get(each))
    const source = sources.find((each) => each !== undefined)
    if (style && styles[style].splitInput) {
      if (sources.some((each) => each === undefined))
        throw new LockstepError(
          `layer ${layer.name} is split by ${style} and reads ${before[0]?.name}, which every rank has whole: split the dense ` +
            'layer before it by column',
        )
    } else if (source !== undefined) {
      if (style || sources.includes(undefined) || !isElementwise(layer))
        throw new LockstepError(
          `layer ${layer.name} (${layer.getClassName()}) reads what ${source.name} has split by column: expected layers that ` +
            'compute number by number up to a dense layer split by row',
        )
      partsFrom.set(layer, source)
    }
    if (style && styles[style].splitOutput) partsFrom.set(layer, layer)
  }
  for (const { name } of model.layers.filter((layer) => isOutput(model, layer))) {
    const source = partsFrom.get(model.getLayer(name))
    if (source === undefined) continue
    throw new LockstepError(
      `the model's output ${name} would stay split by column, from ${source.name} on: leave that out of the plan, or split the ` +
        'next dense layer by row',
    )
  }
  return new Set(partsFrom.keys())
}

function isOutput(model: LayersModel, layer: Layer): boolean {
  return model.outputs.some(({ sourceLayer }) => sourceLayer === layer)
}
