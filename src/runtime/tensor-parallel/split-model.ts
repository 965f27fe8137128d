/**
 * A layers model whose weights are split over ranks. The model itself is left alone: only while it computes do its layers
 * read slices and sum over ranks. It trains nothing.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayersModel } from '@tensorflow/tfjs-layers'
import type { Communicator } from '../../collectives/communicator.js'
import type { Model } from '../model.js'
import { Parameters } from '../parameters.js'
import { plannedLayers, type SplitPlan } from './plan.js'
import { joined, type Split, sliceOf, sliceShape } from './slices.js'
import { type Layer, type Style, styles } from './styles.js'

/** A weight of which each rank holds a slice. */
interface SplitWeight {
  readonly weight: LayersModel['weights'][number]
  readonly whole: tf.Variable
  readonly slice: tf.Variable
  readonly split: Split
}

export class SplitModel {
  private readonly planned: ReadonlyMap<Layer, Style>
  /** Layers of whose outputs each rank has a part. */
  readonly inParts: ReadonlySet<Layer>
  private readonly splitWeights: readonly SplitWeight[]

  /** @throws LockstepError when `plan` cannot be followed by so many ranks. */
  constructor(
    model: LayersModel,
    plan: SplitPlan,
    /** The ranks that hold a slice each. */
    private readonly links: Communicator,
  ) {
    const { planned, inParts } = plannedLayers(model, plan, links.size)
    this.planned = links.size > 1 ? planned : new Map()
    this.inParts = links.size > 1 ? inParts : new Set()
    this.splitWeights = [...this.planned].flatMap(([layer, style]) =>
      layer.weights.flatMap((weight) => {
        const split = styles[style].splitOf(layer, weight.originalName.split('/').at(-1)!)
        if (split === undefined) return []
        const whole = weight.read() as tf.Variable
        return [{ weight, whole, split, slice: this.slice(whole, split) }]
      }),
    )
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
      loss: (x, y, training) => this.within(() => model.loss(x, y, training)),
      predict: predict && ((x) => this.within(() => predict(x))),
    }
  }

  /** Runs `body` with layers that compute with their slices. */
  within<T>(body: () => T): T {
    const sum = (data: Float32Array) => this.links.allReduce(data, 'sum')
    const undo = [...this.planned].map(([layer, style]) => styles[style].patch(layer, sum))
    for (const { weight, slice } of this.splitWeights) weight.read = () => slice
    try {
      return body()
    } finally {
      for (const { weight } of this.splitWeights) Reflect.deleteProperty(weight, 'read')
      for (const putBack of undo) putBack()
    }
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
