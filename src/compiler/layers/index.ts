/**
 * Layers that are written anew for the compiler, one row each, and the patch that puts them in place during a step:
 * because they draw random numbers, because TensorFlow.js has no gradient for them, or because a kernel of their own is
 * faster than what TensorFlow.js writes.
 */
import { batchNormalization } from './batch-norm.js'
import { dropout, spatialDropout1d } from './dropout.js'
import { patchGelu } from './gelu.js'
import type { Call, Layer, LayerHost } from './layer.js'
import { layerNormalization } from './layer-norm.js'
import { alphaDropout, gaussianDropout, gaussianNoise } from './noise.js'
import { redrawMasks, refuseStateful } from './recurrent.js'
import { thresholdedRelu } from './thresholded-relu.js'

export type { Layer, LayerHost } from './layer.js'

const rewritten: Readonly<Record<string, Call>> = {
  AlphaDropout: alphaDropout,
  BatchNormalization: batchNormalization,
  Dropout: dropout,
  GaussianDropout: gaussianDropout,
  GaussianNoise: gaussianNoise,
  LayerNormalization: layerNormalization,
  SpatialDropout1D: spatialDropout1d,
  ThresholdedReLU: thresholdedRelu,
}

/**
 * Runs `body` with every layer saying its name while it is called, and with layers in the table written anew.
 * The layers are as before when it returns.
 */
export function withLayers<T>(models: readonly Layer[], host: LayerHost, body: () => T): T {
  const layers = new Set(models.flatMap(flatten))
  const undo = [...layers].flatMap((layer) => [
    redrawMasks(layer, (shape) => host.random(shape, layer.name)),
    patchCall(layer, host),
    ...(host.eager ? [] : [patchGelu(layer)]),
  ])
  try {
    return body()
  } finally {
    for (const putBack of undo) putBack()
  }
}

/** @returns what puts the layer's `call` back. */
function patchCall(layer: Layer, host: LayerHost): () => void {
  const { call } = layer
  // Its own property, where it has one: most layers have `call` from their class.
  const own = Object.getOwnPropertyDescriptor(layer, 'call')
  const anew = rewritten[layer.getClassName()]
  layer.call = (inputs, kwargs) => {
    host.layers.push(layer.name)
    try {
      if (!host.eager) refuseStateful(layer)
      if (anew === undefined) return call.call(layer, inputs, kwargs)
      const [input] = Array.isArray(inputs) ? inputs : [inputs]
      const output = anew(layer, input!, {
        training: kwargs?.training === true,
        eager: host.eager === true,
        uniform: (shape) => host.random(shape, layer.name),
      })
      return output ?? call.call(layer, inputs, kwargs)
    } finally {
      host.layers.pop()
    }
  }
  return () => {
    if (own === undefined) Reflect.deleteProperty(layer, 'call')
    else Object.defineProperty(layer, 'call', own)
  }
}

/** Where layers keep the layers inside them: models, stacked cells, recurrent layers, wrappers, both directions. */
const INSIDE = ['layers', 'cells', 'cell', 'layer', 'forwardLayer', 'backwardLayer'] as const

/** A layer and all layers inside it. */
function flatten(layer: Layer): Layer[] {
  const parts = layer as Partial<Record<(typeof INSIDE)[number], Layer | Layer[]>>
  const inner = INSIDE.flatMap((name) => parts[name] ?? [])
  return [...inner.flatMap(flatten), layer]
}
