/**
 * Layers that draw random numbers. TensorFlow.js draws them in JavaScript, so a trace would freeze one draw for ever;
 * here they are written anew over a random input of the step, which is filled afresh at every run. One row a layer.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { layers } from '@tensorflow/tfjs-layers'
import type { Recording } from './recorder.js'

export type Layer = layers.Layer

/** What a layer does with its input while training. */
type Call = (layer: Layer, input: tf.Tensor, uniform: (shape: number[]) => tf.Tensor) => tf.Tensor

/** Inverted dropout (Srivastava et al. 2014): keeps with probability 1 - rate, and scales what is kept. */
const dropout: Call = (layer, input, uniform) => {
  const { rate, noiseShape } = layer as Layer & { rate: number; noiseShape?: (number | null)[] }
  if (rate === 0) return input
  const shape = noiseShape?.map((n, i) => n ?? input.shape[i]!) ?? input.shape
  const kept = tf.cast(tf.greaterEqual(uniform(shape), rate), 'float32')
  return tf.mul(input, tf.div(kept, 1 - rate))
}

const randomLayers: Readonly<Record<string, Call>> = {
  Dropout: dropout,
}

/**
 * Runs `body` with every layer saying its name while it is called, and with random layers redirected to `recording`.
 * The layers are as before when it returns.
 */
export function withLayers<T>(models: readonly Layer[], recording: Recording, body: () => T): T {
  const originals = new Map<Layer, Layer['call']>()
  for (const layer of models.flatMap(flatten)) {
    if (originals.has(layer)) continue
    const call = layer.call
    originals.set(layer, call)
    const random = randomLayers[layer.getClassName()]
    layer.call = (inputs, kwargs) => {
      recording.layers.push(layer.name)
      try {
        if (random === undefined || kwargs?.training !== true) return call.call(layer, inputs, kwargs)
        const [input] = Array.isArray(inputs) ? inputs : [inputs]
        return random(layer, input!, (shape) => recording.random(shape, layer.name))
      } finally {
        recording.layers.pop()
      }
    }
  }
  try {
    return body()
  } finally {
    for (const layer of originals.keys()) Reflect.deleteProperty(layer, 'call')
  }
}

/** A layer and all layers inside it: models are layers too. */
function flatten(layer: Layer): Layer[] {
  const inner = (layer as Layer & { layers?: Layer[] }).layers ?? []
  return [...inner.flatMap(flatten), layer]
}
