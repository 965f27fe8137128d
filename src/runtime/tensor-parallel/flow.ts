/**
 * How the values of a split model lie on the ranks: whole on each, in parts along the last dimension (units) or in parts along
 * the sequence. It follows them from layer to layer, and refuses plans that leave a layer without what it needs.
 */
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import { type LayerCall, layerGraph } from '../pipeline/layer-graph.js'
import { type Layer, type Style, styles } from './styles.js'

/** Of a value that is not whole: along what it is in parts, and the layer that split it. */
export interface Parts {
  readonly along: 'units' | 'sequence'
  readonly from: Layer
}

export interface Flow {
  readonly parts: ReadonlyMap<SymbolicTensor, Parts>
  /** Split layers whose input is in parts along the sequence. */
  readonly gathering: ReadonlySet<Layer>
  /** Layers that are not split, and compute on this rank's part of each sequence. */
  readonly positionwise: ReadonlySet<Layer>
  /** Whether split layers leave their outputs in parts along the sequence. */
  readonly sequence: boolean
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

/** Those that compute each position of a sequence from the same position; noise would be the same in all ranks' parts. */
const POSITIONWISE = new Set(
  [...ELEMENTWISE, 'Dense', 'LayerNormalization'].filter((kind) => !/Alpha|Gaussian/.test(kind)),
)

/** @throws LockstepError naming the layer that reads parts of what it needs whole, or the output that stays in parts. */
export function flowOf(model: LayersModel, planned: ReadonlyMap<Layer, Style>): Flow {
  const parts = new Map<SymbolicTensor, Parts>()
  const [gathering, positionwise] = [new Set<Layer>(), new Set<Layer>()]
  const sequence = [...planned.values()].includes('sequence')
  const { calls, outputs } = layerGraph(model)
  for (const call of calls) {
    const { layer } = call
    const style = planned.get(layer)
    const read = call.inputs.map((tensor) => parts.get(tensor))
    const made = style ? splitBy(style, call, read, sequence) : passedOn(layer, read)
    if (style && read[0]?.along === 'sequence') gathering.add(layer)
    if (!style && made?.along === 'sequence') positionwise.add(layer)
    if (made) for (const tensor of call.outputs) parts.set(tensor, made)
  }
  for (const tensor of outputs) {
    const { along, from } = parts.get(tensor) ?? {}
    if (along !== 'sequence') continue
    throw new LockstepError(
      `the model's output ${tensor.sourceLayer.name} would stay split along the sequence, from ${from!.name} on: split the last ` +
        'dense layer by column',
    )
  }
  return { parts, gathering, positionwise, sequence }
}

/** What a split layer makes. */
function splitBy(
  style: Style,
  { layer, inputs }: LayerCall,
  read: readonly (Parts | undefined)[],
  sequence: boolean,
): Parts | undefined {
  const { splitInput, makes } = styles[style]
  if (splitInput && read.some((each) => each?.along !== 'units'))
    throw new LockstepError(
      `layer ${layer.name} is split by ${style} and reads ${inputs[0]?.sourceLayer.name}, which every rank has whole: split the ` +
        'dense layer before it by column',
    )
  const source = read.find((each) => each?.along === 'units')
  if (!splitInput && source) throw needsWhole(layer, source)
  if (style === 'sequence' && (read[0] || inputs[0]!.shape.length < 3))
    throw new LockstepError(
      `layer ${layer.name} cannot begin to split along the sequence: expected a whole input [batch, sequence, …], and it is ` +
        (read[0]
          ? `split along the sequence already, from ${read[0].from.name} on`
          : `[${inputs[0]!.shape.map((n) => n ?? 'any')}]`),
    )
  const along = makes(inputs[0]!, sequence)
  return along && { along, from: layer }
}

/** What a layer makes of parts that is not split itself. */
function passedOn(layer: Layer, read: readonly (Parts | undefined)[]): Parts | undefined {
  const source = read.find((each) => each !== undefined)
  if (source === undefined) return undefined
  const alike = read.every((each) => each?.along === source.along)
  if (source.along === 'units') {
    if (alike && isElementwise(layer)) return source
    throw needsWhole(layer, source)
  }
  if (!alike || !POSITIONWISE.has(layer.getClassName()))
    throw new LockstepError(
      `layer ${layer.name} (${layer.getClassName()}) reads what ${source.from.name} has split along the sequence: expected layers ` +
        'that compute position by position up to one that is split',
    )
  const rule = Object.entries(layer).find(([name, value]) => name.endsWith('Regularizer') && value)
  if (rule)
    throw new LockstepError(
      `layer ${layer.name} has a ${rule[0]}, which every rank would add for its part of the sequence: leave it away, or take a ` +
        'plan without sequence',
    )
  return source
}

const needsWhole = (layer: Layer, { from }: Parts) =>
  new LockstepError(
    `layer ${layer.name} (${layer.getClassName()}) reads what ${from.name} has split by column: expected layers that ` +
      'compute number by number up to a dense layer split by row',
  )
