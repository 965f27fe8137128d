/**
 * A layers model as a list of layer calls in an order that can be computed, and where between two of them a single tensor
 * crosses. It runs parts of that list on tensors; it decides no cuts.
 */
import type * as tf from '@tensorflow/tfjs-core'
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers'
import type { Layer } from '../../compiler/layers/index.js'

/** One call of a layer. A nested model is one call. */
export interface LayerCall {
  readonly layer: Layer
  readonly inputs: readonly SymbolicTensor[]
  readonly outputs: readonly SymbolicTensor[]
  readonly kwargs: Readonly<Record<string, unknown>>
}

export interface LayerGraph {
  readonly calls: readonly LayerCall[]
  readonly inputs: readonly SymbolicTensor[]
  readonly outputs: readonly SymbolicTensor[]
  /** Along what a value lies in parts on several ranks; undefined: each has it whole. */
  readonly split?: (tensor: SymbolicTensor) => 'units' | 'sequence' | undefined
}

/** What TensorFlow.js does not declare of a model: its calls, by their distance from the outputs. */
interface Node {
  readonly outboundLayer: Layer
  readonly inputTensors: SymbolicTensor[]
  readonly outputTensors: SymbolicTensor[]
  readonly callArgs: Record<string, unknown> | null
}
interface Container {
  readonly nodesByDepth: Readonly<Record<number, readonly Node[]>>
}

/** `model` must be built. */
export function layerGraph(model: LayersModel): LayerGraph {
  const byDepth = Object.entries((model as unknown as Container).nodesByDepth)
  const nodes = byDepth.toSorted(([a], [b]) => Number(b) - Number(a)).flatMap(([, found]) => found)
  const calls = nodes
    .filter(({ outboundLayer }) => outboundLayer.getClassName() !== 'InputLayer')
    .map(({ outboundLayer, inputTensors, outputTensors, callArgs }) => ({
      layer: outboundLayer,
      inputs: inputTensors,
      outputs: outputTensors,
      kwargs: callArgs ?? {},
    }))
  return { calls, inputs: model.inputs, outputs: model.outputs }
}

/** The tensors that are made up to call `at` (or given to the model) and needed after it. */
export function crossing({ calls, inputs, outputs }: LayerGraph, at: number): SymbolicTensor[] {
  const before = [...inputs, ...calls.slice(0, at + 1).flatMap((call) => call.outputs)]
  const after = new Set([...calls.slice(at + 1).flatMap((call) => call.inputs), ...outputs])
  return before.filter((tensor) => after.has(tensor))
}

/** Runs `calls` on the values of `given`, as a model does, masks included. @returns values, and masks where there are any */
export function runCalls(
  calls: readonly LayerCall[],
  given: ReadonlyMap<SymbolicTensor, tf.Tensor>,
  training: boolean,
): {
  readonly values: ReadonlyMap<SymbolicTensor, tf.Tensor>
  readonly masks: ReadonlyMap<SymbolicTensor, tf.Tensor>
} {
  const values = new Map(given)
  const masks = new Map<SymbolicTensor, tf.Tensor>()
  for (const { layer, inputs, outputs, kwargs } of calls) {
    const x = inputs.map((tensor) => values.get(tensor)!)
    const mask = inputs.map((tensor) => masks.get(tensor))
    const masked = mask.some((each) => each !== undefined)
    const options = { ...kwargs, training, ...(masked && { mask: mask[0] }) }
    const y = [layer.apply(x.length === 1 ? x[0]! : x, options) as tf.Tensor | tf.Tensor[]].flat()
    const made = layer.supportsMasking ? layer.computeMask(x, mask as tf.Tensor[]) : undefined
    outputs.forEach((tensor, i) => {
      values.set(tensor, y[i]!)
      const own = Array.isArray(made) ? made[i] : made
      if (own) masks.set(tensor, own)
    })
  }
  return { values, masks }
}
