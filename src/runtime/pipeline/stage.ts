/**
 * A stage: consecutive layer calls of a model with one tensor in and one out, or the model's own inputs and outputs at the
 * ends. Functions on tensors; it compiles and sends nothing.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { SymbolicTensor } from '@tensorflow/tfjs-layers'
import type { Layer } from '../../compiler/layers/index.js'
import { LockstepError } from '../../errors.js'
import type { Loss } from '../losses.js'
import type { Parameter } from '../model.js'
import type { SplitModel } from '../tensor-parallel/split-model.js'
import { crossing, type LayerCall, type LayerGraph, runCalls } from './layer-graph.js'

export interface Stage {
  readonly number: number
  readonly isFirst: boolean
  readonly isLast: boolean
  readonly calls: readonly LayerCall[]
  /** Each once. */
  readonly layers: readonly Layer[]
  readonly inputs: readonly SymbolicTensor[]
  readonly outputs: readonly SymbolicTensor[]
  /** In model order. */
  readonly parameters: readonly Parameter[]
  /** Where several ranks share each layer. */
  readonly split: SplitModel | undefined
}

/**
 * @param parameters of the model as this rank computes it
 * @param cuts the calls after which the model is cut
 */
export function stagesOf(
  graph: LayerGraph,
  parameters: readonly Parameter[],
  cuts: readonly number[],
  split?: SplitModel,
): Stage[] {
  const ends = [...cuts, graph.calls.length - 1]
  return ends.map((end, number) => {
    const start = number === 0 ? 0 : ends[number - 1]! + 1
    const calls = graph.calls.slice(start, end + 1)
    const layers = [...new Set(calls.map(({ layer }) => layer))]
    const weights = layers.flatMap((layer) => layer.weights)
    const read = () => weights.map((weight) => weight.read())
    const variables = new Set(split ? split.within(read) : read())
    const [isFirst, isLast] = [number === 0, number === ends.length - 1]
    return {
      number,
      isFirst,
      isLast,
      calls,
      layers,
      inputs: isFirst ? graph.inputs : crossing(graph, start - 1),
      outputs: isLast ? graph.outputs : crossing(graph, end),
      parameters: parameters.filter(({ variable }) => variables.has(variable)),
      split,
    }
  })
}

/**
 * The stage's outputs; `training` as in a model's `apply`.
 * @throws LockstepError when a mask would have to go to the next stage with them
 */
export function applyStage(
  { calls, layers, inputs, outputs, isLast, split }: Stage,
  x: readonly tf.Tensor[],
  training: boolean,
): tf.Tensor[] {
  const given = new Map(inputs.map((tensor, i) => [tensor, x[i]!]))
  const run = () => runCalls(calls, given, training)
  const { values, masks } = split ? split.within(run, layers) : run()
  const masked = isLast ? undefined : outputs.find((tensor) => masks.has(tensor))
  if (masked === undefined) return outputs.map((tensor) => values.get(tensor)!)
  throw new LockstepError(
    `the output of layer ${masked.sourceLayer.name} has a mask, which cannot go with it to the next stage: cut the ` +
      'model before the masking layer, or after the last layer that uses the mask (stages: [names of layers])',
  )
}

/** The regularisers' terms of the stage's layers; undefined where there are none. */
export function regularization({ layers, split }: Stage): tf.Scalar | undefined {
  const calculate = () => layers.flatMap((layer) => layer.calculateLosses())
  const terms = split ? split.within(calculate) : calculate()
  return terms.length === 0 ? undefined : terms.reduce((sum, term) => tf.add(sum, term) as tf.Scalar)
}

/** What crosses to the next stage for so many samples. @throws LockstepError when the model does not say. */
export function boundaryShape(stage: Stage, samples: number): number[] {
  const [tensor] = stage.outputs
  const ranks = stage.split?.partsOf(tensor!)?.along === 'sequence' ? stage.split.ranks : 1
  const sizes = tensor!.shape.slice(1).map((size, i) => (size !== null && i === 0 ? size / ranks : size))
  if (sizes.every((size) => size !== null)) return [samples, ...(sizes as number[])]
  throw new LockstepError(
    `the output of layer ${tensor!.sourceLayer.name} has shape [${tensor!.shape.map((n) => n ?? 'any')}]: a pipeline ` +
      'needs fixed sizes between its stages; give the model a fixed inputShape',
  )
}

/** The sum over the model's outputs of the batch's mean losses. */
export function totalLoss(
  losses: readonly Loss[],
  labels: readonly tf.Tensor[],
  predictions: readonly tf.Tensor[],
): tf.Tensor {
  const values = predictions.map((each, i) => losses[losses.length === 1 ? 0 : i]!.compute(labels[i]!, each))
  return values.reduce((sum, value) => tf.add(sum, value))
}
