/**
 * Layers whose training pass is written anew for the compiler. One row a layer.
 * Some draw random numbers: TensorFlow.js draws them in JavaScript, so a trace would freeze one draw for ever; here
 * they are an input of the step, filled afresh at every run. Others have a kernel of their own that runs faster.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { LayerVariable, layers } from '@tensorflow/tfjs-layers'
import { LockstepError } from '../errors.js'
import type { BatchNormAttrs } from './ops/batch-norm.js'
import type { Recording } from './recorder.js'

export type Layer = layers.Layer

/** What a layer does with its input while training; undefined: this configuration is left to TensorFlow.js. */
type Call = (layer: Layer, input: tf.Tensor, uniform: (shape: number[]) => tf.Tensor) => tf.Tensor | undefined

/** Inverted dropout (Srivastava et al. 2014): keeps with probability 1 - rate, and scales what is kept. */
const dropout: Call = (layer, input, uniform) => {
  const { rate, noiseShape } = layer as Layer & { rate: number; noiseShape?: (number | null)[] }
  if (rate === 0) return input
  if (rate >= 1)
    throw new LockstepError(`layer ${layer.name} has a dropout rate of ${rate}: expected less than 1`)
  const shape = noiseShape?.map((n, i) => n ?? input.shape[i]!) ?? input.shape
  const kept = tf.cast(tf.greaterEqual(uniform(shape), rate), 'float32')
  return tf.mul(input, tf.div(kept, 1 - rate))
}

/** One kernel forward and one backward (ops/batch-norm.ts), and the moving averages assigned as TensorFlow.js does. */
const batchNormalization: Call = (given, input) => {
  const layer = given as Layer & BatchNormLayer
  const axis = layer.axis < 0 ? layer.axis + input.rank : layer.axis
  if (axis !== input.rank - 1) return undefined
  const channels = input.shape[axis]!
  const gamma = layer.gamma?.read() ?? tf.ones([channels])
  const beta = layer.beta?.read() ?? tf.zeros([channels])
  const attrs: BatchNormAttrs = { epsilon: layer.epsilon }
  const run = (kernel: string, inputs: Record<string, tf.Tensor>) =>
    tf.engine().runKernel(kernel, inputs, { ...attrs }) as tf.Tensor[]
  let statistics: readonly tf.Tensor[] = []
  const normalize = tf.customGrad((...args) => {
    const [x, g, b, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc]
    const [value, mean, variance, scale] = run('LockstepBatchNorm', { x, gamma: g, beta: b })
    statistics = [mean!, variance!]
    save([x, g, mean!, scale!])
    return {
      value: value!,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [x, gamma, mean, scale] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
        return run('LockstepBatchNormGrad', { dy, x, gamma, mean, scale })
      },
    }
  })
  const output = normalize(input, gamma, beta)
  ;[layer.movingMean, layer.movingVariance].forEach((average, i) => {
    const before = average.read()
    average.write(tf.sub(before, tf.mul(tf.sub(before, statistics[i]!), 1 - layer.momentum)))
  })
  return output
}

interface BatchNormLayer {
  readonly axis: number
  readonly epsilon: number
  readonly momentum: number
  /** Undefined for a layer without scale or centre. */
  readonly gamma?: LayerVariable
  readonly beta?: LayerVariable
  readonly movingMean: LayerVariable
  readonly movingVariance: LayerVariable
}

const rewritten: Readonly<Record<string, Call>> = {
  BatchNormalization: batchNormalization,
  Dropout: dropout,
}

/**
 * Runs `body` with every layer saying its name while it is called, and with layers in the table written anew.
 * The layers are as before when it returns.
 */
export function withLayers<T>(models: readonly Layer[], recording: Recording, body: () => T): T {
  // A layer's own property `call`, where it had one: most have it from their class.
  const originals = new Map<Layer, PropertyDescriptor | undefined>()
  for (const layer of models.flatMap(flatten)) {
    if (originals.has(layer)) continue
    const { call } = layer
    originals.set(layer, Object.getOwnPropertyDescriptor(layer, 'call'))
    const anew = rewritten[layer.getClassName()]
    layer.call = (inputs, kwargs) => {
      recording.layers.push(layer.name)
      try {
        if (anew === undefined || kwargs?.training !== true) return call.call(layer, inputs, kwargs)
        const [input] = Array.isArray(inputs) ? inputs : [inputs]
        const output = anew(layer, input!, (shape) => recording.random(shape, layer.name))
        return output ?? call.call(layer, inputs, kwargs)
      } finally {
        recording.layers.pop()
      }
    }
  }
  try {
    return body()
  } finally {
    for (const [layer, own] of originals) {
      if (own === undefined) Reflect.deleteProperty(layer, 'call')
      else Object.defineProperty(layer, 'call', own)
    }
  }
}

/** A layer and all layers inside it: models are layers too. */
function flatten(layer: Layer): Layer[] {
  const inner = (layer as Layer & { layers?: Layer[] }).layers ?? []
  return [...inner.flatMap(flatten), layer]
}
