/**
 * A layers model whose weights are split over ranks. The model itself is left alone: only while it computes do its layers
 * read slices and sum over ranks. It trains nothing.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../collectives/communicator.js'
import { LockstepError } from '../../errors.js'
import type { Loss } from '../losses.js'
import type { Model } from '../model.js'
import { Parameters } from '../parameters.js'
import { splitCrossEntropy } from './cross-entropy.js'
import { type Flow, flowOf, type Parts } from './flow.js'
import { plannedLayers, type SplitPlan } from './plan.js'
import { joined, type Split, sliceOf, sliceShape } from './slices.js'
import { drawForWhole, type Layer, type Style, styles } from './styles.js'
import { RankSums } from './sums.js'

type Weight = LayersModel['weights'][number]

/** A weight of which each rank holds a slice. */
interface SplitWeight {
  readonly weight: Weight
  readonly whole: tf.Variable
  readonly slice: tf.Variable
  readonly split: Split
}

export class SplitModel {
  private readonly planned: ReadonlyMap<Layer, Style>
  private readonly flow: Flow
  /** Whole on every rank, and used on this rank's part of each sequence: of their gradients each rank has a part. */
  private readonly partialGradients: ReadonlySet<Weight>
  private readonly splitWeights: readonly SplitWeight[]

  /** @throws LockstepError when `plan` cannot be followed by so many ranks. */
  constructor(
    private readonly model: LayersModel,
    plan: SplitPlan,
    /** The ranks that hold a slice each. */
    private readonly links: Communicator,
  ) {
    const planned = plannedLayers(model, plan, links.size)
    const flow = flowOf(model, planned)
    this.planned = links.size > 1 ? planned : new Map()
    this.flow = links.size > 1 ? flow : flowOf(model, this.planned)
    this.splitWeights = [...this.planned].flatMap(([layer, style]) =>
      layer.weights.flatMap((weight) => {
        const split = styles[style].splitOf(layer, weight.originalName.split('/').at(-1)!)
        if (split === undefined) return []
        const whole = weight.read() as tf.Variable
        return [{ weight, whole, split, slice: this.slice(whole, split) }]
      }),
    )
    const split = new Set(this.splitWeights.map(({ weight }) => weight))
    const behindSums = [...this.planned].filter(([, style]) => style !== 'sequence').map(([layer]) => layer)
    const partial = [...this.flow.positionwise, ...(this.flow.sequence ? behindSums : [])]
    this.partialGradients = new Set(
      partial.flatMap(({ weights }) => weights).filter((weight) => !split.has(weight)),
    )
  }

  /** How many share the model. */
  get ranks(): number {
    return this.links.size
  }

  /** How a value of the model lies on the ranks; undefined: every one has it whole. */
  partsOf(tensor: SymbolicTensor): Parts | undefined {
    return this.flow.parts.get(tensor)
  }

  /**
   * What computes `losses` from outputs as they lie on the ranks.
   * @throws LockstepError for a loss that needs all classes of an output that is split
   */
  losses(losses: readonly Loss[]): readonly Loss[] {
    const split = this.model.outputs.find((tensor) => this.partsOf(tensor))
    if (split === undefined) return losses
    const { name } = split.sourceLayer
    if (losses.some((loss) => loss.name !== 'softmaxCrossEntropy') || this.model.outputs.length > 1)
      throw new LockstepError(
        `the model's output ${name} would stay split by ${this.partsOf(split)!.from.name}, and its loss is ` +
          `${losses.map((loss) => loss.name).join(', ')}: expected softmaxCrossEntropy and no other output; leave that layer ` +
          'out of the plan, or split the next dense layer by row',
      )
    const sums = new RankSums(this.links, `${name} (loss)`)
    return losses.map((loss) => ({ ...loss, compute: (y, p) => splitCrossEntropy(y, p, sums) }))
  }

  /** The model's outputs, whole on every rank. */
  whole(outputs: readonly tf.Tensor[]): tf.Tensor[] {
    const { rank, size } = this.links
    return outputs.map((part, i) => {
      const tensor = this.model.outputs[i]!
      if (this.partsOf(tensor) === undefined) return part
      const own = part.shape.at(-1)!
      const padding = part.shape.map((_, axis): [number, number] =>
        axis === part.rank - 1 ? [rank * own, (size - 1 - rank) * own] : [0, 0],
      )
      return new RankSums(this.links, `${tensor.sourceLayer.name} (outputs)`).sum(tf.pad(part, padding))
    })
  }

  /** The runtime's view of the whole model, as this rank computes it. */
  derive(model: Model): Model {
    const slices = new Map(this.splitWeights.map(({ whole, slice }) => [whole, slice]))
    const { predict } = model
    return {
      ...model,
      parameters: model.parameters.map((parameter) => ({
        ...parameter,
        variable: slices.get(parameter.variable) ?? parameter.variable,
      })),
      loss: (x, y, training) => this.within(() => model.loss(x, y, training), this.model.layers),
      predict: predict && ((x) => this.whole(this.within(() => predict(x), this.model.layers))),
    }
  }

  /** Runs `body` with layers that compute with their slices. @param layers that it calls; without them it may read weights */
  within<T>(body: () => T, layers: readonly Layer[] = []): T {
    const { links, flow } = this
    const undo = [...this.planned].map(([layer, style]) =>
      styles[style].patch(layer, {
        sums: new RankSums(links, layer.name),
        gathers: flow.gathering.has(layer),
        sequence: flow.sequence,
      }),
    )
    for (const layer of flow.positionwise)
      if (layer.getClassName() === 'Dropout') undo.push(drawForWhole(layer, new RankSums(links, layer.name)))
    const replaced = new Map<Weight, tf.Tensor>(this.splitWeights.map(({ weight, slice }) => [weight, slice]))
    const partial = [...new Set(layers.flatMap(({ weights }) => weights))].filter((weight) =>
      this.partialGradients.has(weight),
    )
    for (const [weight, value] of this.withSummedGradients(partial)) replaced.set(weight, value)
    for (const [weight, value] of replaced) weight.read = () => value as tf.Variable
    try {
      return body()
    } finally {
      for (const weight of replaced.keys()) Reflect.deleteProperty(weight, 'read')
      for (const putBack of undo) putBack()
    }
  }

  /** The weights as they are; their gradients are summed over the ranks, all at once. */
  private withSummedGradients(weights: readonly Weight[]): [Weight, tf.Tensor][] {
    if (weights.length === 0) return []
    const values = weights.map((weight) => weight.read())
    const sums = new RankSums(this.links, 'weights beside the sequence')
    const all = sums.sumGradient(tf.concat(values.map((value) => tf.reshape(value, [-1]))))
    const pieces = tf.split(
      all,
      values.map(({ size }) => size),
    )
    return weights.map((weight, i) => [weight, tf.reshape(pieces[i]!, values[i]!.shape)])
  }

  /**
   * Puts the slices' values together in the layers model's own variables. All ranks must call it together.
   */
  async join(): Promise<void> {
    const { links } = this
    for (const { whole, slice, split } of this.splitWeights) {
      const slices = await links.allGather(slice.dataSync() as Float32Array)
      const values = joined(slices as Float32Array, whole.shape, split, links.size)
      tf.tidy(() => whole.assign(tf.tensor(values, whole.shape)))
    }
  }

  /** How each parameter of the whole model is split; undefined: every rank holds it whole. */
  splitsOf(parameters: Model['parameters']): (Split | undefined)[] {
    const splits = new Map(this.splitWeights.map(({ whole, split }) => [whole, split]))
    return parameters.map(({ variable }) => splits.get(variable))
  }

  /** SHA-256 (hexadecimal) of what every rank holds whole, which must be the same on all of them. */
  unsplitSha256(model: Model): string {
    const splits = this.splitsOf(model.parameters)
    return new Parameters(
      model.parameters.filter((_, i) => splits[i] === undefined),
      [],
    ).sha256()
  }

  dispose(): void {
    for (const { slice } of this.splitWeights) slice.dispose()
  }

  private slice(whole: tf.Variable, split: Split): tf.Variable {
    const { rank, size } = this.links
    const values = sliceOf(whole.dataSync() as Float32Array, whole.shape, split, rank, size)
    return tf.tidy(() =>
      tf.variable(tf.tensor(values, sliceShape(whole.shape, split, size)), whole.trainable),
    )
  }
}
