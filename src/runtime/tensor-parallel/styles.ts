/**
 * The ways in which a layer can be split over ranks, one row each: which of its weights are split and how, and how the
 * layer computes with its slices. They send nothing themselves.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { layers, SymbolicTensor } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../../errors.js'
import type { Split } from './slices.js'
import type { RankSums } from './sums.js'

export type Style = 'column' | 'row' | 'heads' | 'vocabulary' | 'sequence'

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
  /** Does its input lie in parts on the ranks, along the last dimension? */
  readonly splitInput: boolean
  /** Along what its output lies in parts; undefined: every rank has it whole. @param sequence whether the plan splits along it */
  makes(input: SymbolicTensor, sequence: boolean): 'units' | 'sequence' | undefined
  /** Makes the layer compute with slices. @returns what puts it back as it was. */
  patch(layer: Layer, place: Place): () => void
}

/** Among what a split layer computes. */
export interface Place {
  readonly sums: RankSums
  /** Whether its input lies in parts along the sequence, and whether its output shall. */
  readonly gathers: boolean
  readonly sequence: boolean
}

/** What a layer that needs its whole input reads, and whose input's gradient is a sum over ranks. */
const wholeInput = (x: tf.Tensor, { sums, gathers }: Place) =>
  gathers ? sums.gather(x) : sums.sumGradient(x)

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
  makes: () => 'units',
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
  patch: (layer, place) =>
    patchCall(layer, (call) => (inputs, kwargs) => {
      return call.call(layer, wholeInput(only(inputs), place), kwargs)
    }),
}

/** Each rank multiplies the part of the input that it has, and the ranks add up (Megatron's row-parallel). */
const row: StyleRow = {
  splitOf: (_, weight) => (weight === 'kernel' ? { axis: 0 } : undefined),
  splitInput: true,
  makes: (_, sequence) => (sequence ? 'sequence' : undefined),
  check(layer, ranks) {
    requireDense(layer, 'row')
    requireShare(layer, 'inputs', dense(layer).kernel.read().shape[0]!, ranks)
  },
  patch(layer, { sums, sequence }) {
    const putBack = patchCall(layer, () => (inputs) => {
      const x = only(inputs)
      const { kernel, bias, activation, units } = dense(layer)
      const rows = tf.reshape(x, [-1, x.shape.at(-1)!])
      const product = tf.matMul(rows, kernel.read())
      const shape = [...x.shape.slice(0, -1), units]
      const y = sequence
        ? sums.ownPart(tf.reshape(sums.sumParts(product, shape), shape))
        : tf.reshape(sums.sum(product), shape)
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
  makes: (_, sequence) => (sequence ? 'sequence' : undefined),
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
  patch(layer, place) {
    const { sums, sequence } = place
    const own = withHeads(layer)
    const { sumOverRanks } = own
    const putBack = patchCall(layer, (call) => (inputs, kwargs) => {
      const x = wholeInput(only(inputs), place)
      own.sumOverRanks = (product) => (sequence ? sums.sumParts(product, x.shape) : sums.sum(product))
      const y = call.call(layer, x, kwargs) as tf.Tensor
      return sequence ? sums.ownPart(y) : y
    })
    return () => {
      own.sumOverRanks = sumOverRanks
      putBack()
    }
  },
}

/**
 * Each rank has the vectors of some of the numbers that are looked up, and the ranks add up; where vectors are given instead (a
 * head that is tied to the embedding) it computes their products with those.
 */
const vocabulary: StyleRow = {
  splitOf: () => ({ axis: 0 }),
  splitInput: false,
  makes: (input) => (isLookUp(input.shape) ? undefined : 'units'),
  check(layer, ranks) {
    const [weight, ...others] = layer.weights
    if (weight?.shape.length !== 2 || others.length > 0)
      throw new LockstepError(
        `layer ${layer.name} (${layer.getClassName()}) cannot be split by vocabulary: expected a tf.layers.embedding, or a ` +
          'layer with one weight [vocabulary, width]',
      )
    requireShare(layer, 'numbers', weight.shape[0]!, ranks)
  },
  patch: (layer, place) =>
    patchCall(layer, () => (inputs) => {
      const x = only(inputs)
      const vectors = layer.weights[0]!.read() as tf.Tensor2D
      const [own, width] = vectors.shape
      if (!isLookUp(x.shape)) {
        const rows = tf.reshape(wholeInput(x, place), [-1, width]) as tf.Tensor2D
        const context = place.gathers ? x.shape[1]! * place.sums.size : x.shape[1]!
        const shape = [x.shape[0]!, context, ...x.shape.slice(2, -1), own]
        return tf.reshape(tf.matMul(rows, vectors, false, true), shape)
      }
      const numbers = tf.sub(tf.cast(x, 'int32'), tf.scalar(place.sums.rank * own, 'int32'))
      const inside = tf.logicalAnd(
        tf.greaterEqual(numbers, tf.scalar(0, 'int32')),
        tf.less(numbers, tf.scalar(own, 'int32')),
      )
      const found = tf.gather(vectors, tf.mul(numbers, tf.cast(inside, 'int32')))
      return place.sums.sum(tf.mul(found, tf.expandDims(tf.cast(inside, 'float32'), -1)))
    }),
}

/** Numbers [batch, sequence], and not vectors [batch, sequence, width]. */
const isLookUp = (shape: readonly (number | null)[]) => shape.length === 2

/** From here on each rank goes on with its part of the sequence (Korthikanti et al. 2022). */
const sequence: StyleRow = {
  splitOf: () => undefined,
  splitInput: false,
  makes: () => 'sequence',
  check: () => {},
  patch: (layer, { sums }) =>
    patchCall(layer, (call) => (inputs, kwargs) => {
      return sums.ownPartOfWhole(call.call(layer, inputs, kwargs) as tf.Tensor)
    }),
}

export const styles: Readonly<Record<Style, StyleRow>> = { column, row, heads, vocabulary, sequence }

/** Makes dropout of parts of sequences draw for whole ones, as on one rank: otherwise all parts would lose the same numbers. */
export function drawForWhole(layer: Layer, sums: RankSums): () => void {
  return patchCall(layer, (call) => (inputs, kwargs) => {
    const x = only(inputs)
    const whole = x.shape.map((n, axis) => (axis === 1 ? n * sums.size : n))
    return tf.mul(x, sums.ownPart(call.call(layer, tf.ones(whole), kwargs) as tf.Tensor))
  })
}

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
