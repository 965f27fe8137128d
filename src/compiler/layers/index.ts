/**
 * Layers that are written anew for the compiler, one row each, and the patch that puts them in place during a trace:
 * because they draw random numbers, or because a kernel of their own is faster than what TensorFlow.js writes.
 */
import type { Recording } from '../recorder.js'
import { batchNormalization } from './batch-norm.js'
import { dropout } from './dropout.js'
import type { Call, Layer } from './layer.js'
import { layerNormalization } from './layer-norm.js'

export type { Layer } from './layer.js'

const rewritten: Readonly<Record<string, Call>> = {
  BatchNormalization: batchNormalization,
  Dropout: dropout,
  LayerNormalization: layerNormalization,
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
        if (anew === undefined) return call.call(layer, inputs, kwargs)
        const [input] = Array.isArray(inputs) ? inputs : [inputs]
        const output = anew(layer, input!, {
          training: kwargs?.training === true,
          uniform: (shape) => recording.random(shape, layer.name),
        })
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
