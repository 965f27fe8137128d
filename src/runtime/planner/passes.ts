/** What a forward and backward pass fills and sends, by compiling it; it is not run, so no batch is too large. */
import * as tf from '@tensorflow/tfjs-core'
import { LayersModel } from '@tensorflow/tfjs-layers'
import { SMALL_BYTES } from '../../collectives/all-reduce.js'
import { type Spec, sizeOf } from '../../compiler/graph.js'
import { arenaBytes, keptBytes, type Liveness, livenessOf } from '../../compiler/liveness.js'
import { EXCHANGE } from '../../compiler/ops/exchange.js'
import { simplify } from '../../compiler/simplify.js'
import { trace } from '../../compiler/trace.js'
import { readBatch } from '../batch.js'
import { lossOf } from '../losses.js'
import { type Model, modelOf } from '../model.js'
import { SplitModel } from '../tensor-parallel/split-model.js'
import { paperRank } from './paper.js'
import type { PlanSubject } from './subject.js'

/** A model as one of `tp` ranks computes it. @throws LockstepError when so many ranks cannot share it. */
export function rankModel({ model: source, loss, plan }: PlanSubject, tp: number): Model {
  const losses = [loss ?? []].flat().map(lossOf)
  if (tp === 1) return modelOf(source, losses)
  const split = new SplitModel(source as LayersModel, plan!, paperRank(0, tp))
  return split.derive(modelOf(source, split.losses(losses)))
}

export interface Pass extends Liveness {
  /** Of each exchange with the ranks that share the layers. */
  readonly exchanges: readonly { readonly bytes: number; readonly layer: string | undefined }[]
}

/** Of so many samples. */
export async function passOf(model: Model, { x, y }: PlanSubject, samples: number): Promise<Pass> {
  const [features, labels] = readBatch(model, x, y)
  const resized = ({ spec: { shape, dtype } }: { spec: Spec }): Spec => {
    return { dtype, shape: [samples, ...shape.slice(1)] }
  }
  const variables = (trainable: boolean) =>
    model.parameters.filter((p) => p.trainable === trainable).map((p) => p.variable)
  const traced = trace({
    trainable: variables(true),
    frozen: variables(false),
    layers: model.layers,
    inputs: [...features.map(resized), ...labels.map(resized), { shape: [], dtype: 'float32' }],
    body: (given) => {
      const loss = model.loss(given.slice(0, features.length), given.slice(features.length, -1), true)
      return [tf.mul(loss, given.at(-1)!)]
    },
  })
  const graph = simplify(traced)
  return {
    ...(await livenessOf(graph)),
    exchanges: graph.nodes
      .filter(({ kernel }) => kernel === EXCHANGE)
      .map(({ outputs: [value], layer }) => ({ bytes: 4 * sizeOf(value!.shape), layer })),
  }
}

/** The part of a pass that some layers make. @param rest whether what no layer makes is among it, as the loss is */
export function partOfPass(pass: Pass, layers: ReadonlySet<string>, rest: boolean): Pass {
  const isOwn = ({ layer }: { readonly layer: string | undefined }) =>
    layer === undefined ? rest : layers.has(layer.replace(/ \(backward\)$/, ''))
  return { ...pass, values: pass.values.filter(isOwn), exchanges: pass.exchanges.filter(isOwn) }
}

/** With so many passes gone forward and not yet back. */
export function activationBytes({ values, lossAt }: Pass, inFlight = 1): number {
  return arenaBytes(values) + (inFlight - 1) * keptBytes(values, lossAt)
}

/** What a rank sends of an all-reduce: by recursive doubling where it is small, else around a ring. */
export function allReduceBytes(bytes: number, ranks: number): number {
  if (ranks === 1) return 0
  return bytes <= SMALL_BYTES ? bytes * Math.ceil(Math.log2(ranks)) : (2 * bytes * (ranks - 1)) / ranks
}

export const isLayersModel = (model: unknown): model is LayersModel => model instanceof LayersModel
