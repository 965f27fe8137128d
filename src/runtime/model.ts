/**
 * A model as the runtime sees it: named parameters, and functions from a batch to a loss or to predictions.
 * Layers models and functional TensorFlow.js code both become one of these; it trains nothing itself.
 */
import { createHash } from 'node:crypto'
import * as tf from '@tensorflow/tfjs-core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import type { Layer } from '../compiler/layers/index.js'
import { LockstepError } from '../errors.js'
import type { BatchShape } from './batch.js'
import type { Loss } from './losses.js'

/** Functional TensorFlow.js code: the variables it trains and its loss, the mean over the batch. */
export interface FunctionalModel {
  readonly params: readonly tf.Variable[] | Readonly<Record<string, tf.Variable>>
  loss(batch: { readonly x: tf.Tensor; readonly y: tf.Tensor }): tf.Tensor
  /** Needed by `evaluate` (for an accuracy) and `predict`. */
  predict?(x: tf.Tensor): tf.Tensor
}

export interface Parameter {
  readonly name: string
  readonly variable: tf.Variable
  readonly trainable: boolean
  /** What the weight is replaced with after every update. */
  readonly constraint?: (weight: tf.Tensor) => tf.Tensor
}

export interface Model extends BatchShape {
  /** In model order. */
  readonly parameters: readonly Parameter[]
  /** For error messages and random layers. */
  readonly layers: readonly Layer[]
  /** With one tensor in x for each input, and one in y for each output. */
  loss(x: tf.Tensor[], y: tf.Tensor[], training: boolean): tf.Tensor
  predict: ((x: tf.Tensor[]) => tf.Tensor[]) | undefined
}

/**
 * @param losses one for all outputs, or one for each; the model's loss is their sum
 * @throws LockstepError when `model` is neither kind, has no weights yet, or lacks a loss
 */
export function modelOf(model: LayersModel | FunctionalModel, losses: readonly Loss[]): Model {
  if (model instanceof LayersModel) return layersModel(model, losses)
  if (typeof model?.loss === 'function' && typeof model.params === 'object') return functionalModel(model)
  throw new LockstepError(
    'ddp() was given something that is no model: expected a TensorFlow.js layers model (tf.sequential, tf.model) ' +
      'or { params, loss: (batch) => tf.Scalar }; if it is a layers model, two copies of @tensorflow/tfjs-layers ' +
      'are installed (npm ls @tensorflow/tfjs-layers)',
  )
}

function layersModel(model: LayersModel, losses: readonly Loss[]): Model {
  if (losses.length === 0) {
    throw new LockstepError("ddp() needs a loss for a layers model: pass { loss: 'softmaxCrossEntropy', … }")
  }
  // A sequential model whose layers know their shapes still counts as unbuilt until it is first used.
  if (!model.built && model.outputs?.length > 0) model.build(model.inputs[0]!.shape)
  if (!model.built) {
    throw new LockstepError(
      'the model has no weights yet: give its first layer an inputShape, or call model.build()',
    )
  }
  const { outputs } = model
  if (losses.length !== 1 && losses.length !== outputs.length) {
    throw new LockstepError(
      `ddp() was given ${losses.length} losses for a model of ${outputs.length} outputs: expected one for all, or one for each`,
    )
  }
  const lossOf = (i: number) => losses[losses.length === 1 ? 0 : i]!
  const apply = (x: tf.Tensor[], training: boolean) =>
    [model.apply(x.length === 1 ? x[0]! : x, { training }) as tf.Tensor | tf.Tensor[]].flat()
  const trainable = new Set(model.trainableWeights.map(({ name }) => name))
  const names = stableNames(model.weights.map(({ originalName }) => originalName))
  const parameters = model.weights.map((weight, i) => ({
    name: names[i]!,
    variable: weight.read() as tf.Variable,
    trainable: trainable.has(weight.name),
    ...(weight.constraint && { constraint: (w: tf.Tensor) => weight.constraint.apply(w) }),
  }))
  return {
    parameters,
    layers: [model],
    inputShapes: model.inputs.map(({ shape }) => shape),
    classes: outputs.map(({ shape }, i) => (lossOf(i).classifies ? shape.at(-1)! : undefined)),
    loss: (x, y, training) => {
      const values = apply(x, training).map((predictions, i) => lossOf(i).compute(y[i]!, predictions))
      const value = values.reduce((sum, term) => tf.add(sum, term))
      return training ? regularized(model, value) : value
    },
    predict: (x) => apply(x, false),
  }
}

/** With the regularisers' terms, which TensorFlow.js too adds in training and leaves out of an evaluation. */
function regularized(model: LayersModel, loss: tf.Tensor): tf.Tensor {
  return model.calculateLosses().reduce<tf.Tensor>((sum, term) => tf.add(sum, term), loss)
}

/**
 * `layer/weight`, numbered only where one model has two of a name. TensorFlow.js' own unique names also count the
 * models made earlier in the process, so a checkpoint would depend on them.
 */
function stableNames(names: readonly string[]): string[] {
  const seen = new Map<string, number>()
  return names.map((name) => {
    const count = (seen.get(name) ?? 0) + 1
    seen.set(name, count)
    return count === 1 ? name : `${name}_${count}`
  })
}

function functionalModel({ params, loss, predict }: FunctionalModel): Model {
  const named = Array.isArray(params)
    ? params.map((variable: tf.Variable) => [variable.name, variable] as const)
    : Object.entries(params as Record<string, tf.Variable>)
  const parameters = named.map(([name, variable]) => ({
    name,
    variable,
    trainable: variable.trainable,
  }))
  if (!parameters.every(({ variable }) => variable instanceof tf.Variable)) {
    throw new LockstepError(
      'params of a functional model holds something that is no tf.variable: wrap it in tf.variable()',
    )
  }
  return {
    parameters,
    layers: [],
    inputShapes: [undefined],
    classes: [undefined],
    loss: ([x], [y]) => loss({ x: x!, y: y! }),
    predict: predict && (([x]) => [predict(x!)]),
  }
}

/** The shapes of a model's parameters, in order; of many the first, and a hash of all. */
export function shapesOf({ parameters }: Model): string {
  const all = parameters.map(({ variable }) => `[${variable.shape}]`).join(' ')
  if (all.length <= 160) return all
  return `${all.slice(0, 160)}… (SHA-256 ${createHash('sha256').update(all).digest('hex').slice(0, 16)})`
}
