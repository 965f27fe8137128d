/**
 * The ways in which a layer can be split over ranks, one row each: which of its weights are split and how, and how the
 * layer computes with its slices. They send nothing themselves.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { layers } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import type { Split } from './slices.js'
import { type SumOverRanks, summed, summedGradient } from './sums.js'

export type Style = 'column' | 'row' | 'heads'

export type Layer = layers.Layer

type Call = Layer['call']

/** What a layer of one's own offers for `heads`: a class with these members, as attention in src/models/gpt.ts. */
export interface HeadsLayer {
  readonly heads: number
  /**
   * How weights are split, by their names: along `axis`, which is `groups` (default 1) times all heads side by side. The
   * others every rank holds whole. `call` must take the number of its own heads from the weights' shapes.
   */
  readonly splitByHeads: Readonly<Record<string, Split>>
  /** What `call` passes the product with its last split weight through, before the bias; x as it is on a single rank. */
  sumOverRanks(x: tf.Tensor): tf.Tensor
}

export interface StyleRow {
  /** How the weight of that name is split; undefined: every rank holds it whole. */
  splitOf(layer: Layer, weight: string): Split | undefined
  /** @throws LockstepError when `ranks` ranks cannot share this layer. */
  check(layer: Layer, ranks: number): void
  /** Does its input, or its output, lie in parts on the ranks, along the last dimension? */
  readonly splitInput: boolean
  readonly splitOutput: boolean
  /** Makes the layer compute with slices. @returns what puts it back as it was. */
  patch(layer: Layer, sum: SumOverRanks): () => void
}

interface DenseLayer {
  readonly units: number
  readonly kernel: { read(): tf.Tensor }
  readonly bias: { read(): tf.Tensor } | null
  readonly activation: { apply(x: tf.Tensor): tf.Tensor; getClassName(): string }
}

const dense = (layer: Layer) => layer as unknown as DenseLayer
const withHeads = (layer: Layer) => layer as unknown as Layer & HeadsLayer

/** Each rank computes some of the units of what it has whole (Megatron's column-parallel). */
const column: StyleRow = {
  splitOf: (_, weight) => (weight === 'kernel' ? { axis: 1 } : { axis: 0 }),
  splitInput: false,
  splitOutput: true,
  check(layer, ranks) {
    requireDense(layer, 'column')
    requireShare(layer, 'units', dense(layer).units, ranks)
    const activation = dense(layer).activation.getClassName()
    if (/softmax/i.test(activation))
      throw new LockstepError(
        `layer ${layer.name} cannot be split by column: its ${activation} needs all units on one rank; leave it out of ` +
          'the plan',
      )
  },
  patch: (layer, sum) =>
    patchCall(layer, (call) => (inputs, kwargs) => {
      return call.call(layer, summedGradient(only(inputs), sum, layer.name), kwargs)
    }),
}

/** Each rank multiplies the part of the input that it has, and the ranks add up (Megatron's row-parallel). */
const row: StyleRow = {
  splitOf: (_, weight) => (weight === 'kernel' ? { axis: 0 } : undefined),
  splitInput: true,
  splitOutput: false,
  check(layer, ranks) {
    requireDense(layer, 'row')
    requireShare(layer, 'inputs', dense(layer).kernel.read().shape[0]!, ranks)
  },
  patch(layer, sum) {
    const putBack = patchCall(layer, () => (inputs) => {
      const x = only(inputs)
      const { kernel, bias, activation, units } = dense(layer)
      const rows = tf.reshape(x, [-1, x.shape.at(-1)!])
      const product = summed(tf.matMul(rows, kernel.read()), sum, layer.name)
      const y = tf.reshape(product, [...x.shape.slice(0, -1), units])
      return activation.apply(bias ? tf.add(y, bias.read()) : y)
    })
    // It says how many inputs the whole layer has.
    const { inputSpec } = layer
    layer.inputSpec = []
    return () => {
      layer.inputSpec = inputSpec
      putBack()
    }
  },
}

/** Each rank computes some of the heads, and the ranks add up. */
const heads: StyleRow = {
  splitOf: (layer, weight) => withHeads(layer).splitByHeads[weight],
  splitInput: false,
  splitOutput: false,
  check(layer, ranks) {
    const offered = withHeads(layer) as Partial<HeadsLayer>
    const isWhole =
      offered.heads !== undefined && offered.splitByHeads !== undefined && offered.sumOverRanks !== undefined
    if (!isWhole)
      throw new LockstepError(
        `layer ${layer.name} (${layer.getClassName()}) cannot be split by heads: expected a layer with the members heads, ` +
          'splitByHeads and sumOverRanks',
      )
    requireShare(layer, 'heads', offered.heads, ranks)
  },
  patch(layer, sum) {
    const own = withHeads(layer)
    const putBack = patchCall(layer, (call) => (inputs, kwargs) => {
      return call.call(layer, summedGradient(only(inputs), sum, layer.name), kwargs)
    })
    const { sumOverRanks } = own
    own.sumOverRanks = (x) => summed(x, sum, layer.name)
    return () => {
      own.sumOverRanks = sumOverRanks
      putBack()
    }
  },
}

export const styles: Readonly<Record<Style, StyleRow>> = { column, row, heads }

function patchCall(layer: Layer, of: (call: Call) => Call): () => void {
  const own = Object.getOwnPropertyDescriptor(layer, 'call')
  layer.call = of(layer.call)
  return () => {
    if (own === undefined) Reflect.deleteProperty(layer, 'call')
    else Object.defineProperty(layer, 'call', own)
  }
}

function requireDense(layer: Layer, style: Style): void {
  const kind = layer.getClassName()
  if (kind !== 'Dense')
    throw new LockstepError(
      `layer ${layer.name} (${kind}) cannot be split by ${style}: expected a tf.layers.dense; leave it out of the plan`,
    )
}

function requireShare(layer: Layer, what: string, count: number, ranks: number): void {
  if (count % ranks === 0) return
  throw new LockstepError(
    `layer ${layer.name} has ${count} ${what} for tp ${ranks}: ${count} / ${ranks} = ${+(count / ranks).toFixed(3)}; ` +
      `expected a multiple of ${ranks}`,
  )
}

const only = (inputs: tf.Tensor | tf.Tensor[]): tf.Tensor => (Array.isArray(inputs) ? inputs[0]! : inputs)
