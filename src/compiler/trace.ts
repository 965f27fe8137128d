/**
 * Traces a model once for one set of input shapes: forward, or forward and backward, as a kernel graph.
 * TensorFlow.js' own gradient functions call kernels, so the backward pass is recorded like the forward one.
 */
import * as tf from '@tensorflow/tfjs-core'
import { gradientsOf } from './differentiate.js'
import { gradientTable } from './gradients/index.js'
import { type KernelGraph, printGraph, type Spec } from './graph.js'
import { type Layer, withLayers } from './layers/index.js'
import { ForeignVariableError, type Recording, UntraceableError, withRecording } from './recorder.js'

export interface TraceRequest {
  /** Variables whose gradients are wanted; empty for a forward pass. */
  readonly trainable: readonly tf.Variable[]
  /** Variables that are only read. */
  readonly frozen: readonly tf.Variable[]
  /** Layers models, so that errors can name layers; none for functional code. */
  readonly layers: readonly Layer[]
  readonly inputs: readonly Spec[]
  /** Computes the outputs; with trainable variables the first output is the scalar loss. */
  body(inputs: tf.Tensor[]): tf.Tensor[]
}

/**
 * The kernel graph of `request`: parameters (trainable, then frozen) and inputs in; the body's outputs, then one
 * gradient per trainable variable, and the new values of variables that the body assigned, out.
 *
 * @throws UntraceableError naming the op and the layer: an uncovered op, a tensor read while tracing, a
 *   trainable or unknown variable assigned, or a random number that would be the same at every step.
 */
export function trace(request: TraceRequest): KernelGraph {
  const first = traceOnce(request)
  const second = traceOnce(request)
  refuseFrozenRandomness(first, second)
  return first.graph
}

interface Traced {
  readonly graph: KernelGraph
  readonly recording: Recording
}

function traceOnce({ trainable, frozen, layers, inputs, body }: TraceRequest): Traced {
  return withRecording((recording) => {
    const params = [...trainable, ...frozen].map((variable) => {
      const value = recording.value({ shape: variable.shape, dtype: variable.dtype as Spec['dtype'] })
      recording.bind(variable.dataId, value)
      return value
    })
    const values = inputs.map((spec) => recording.value(spec))
    const run = () => body(values.map((value) => recording.tensor(value)))
    const results = withLayers(layers, recording, () =>
      trainable.length === 0 ? run() : differentiated(run, trainable, recording),
    ).map((tensor) => recording.lookUp(tensor))
    const updated = [...recording.assigned.keys()].map((variable) => {
      const position = frozen.indexOf(variable)
      if (position >= 0) return trainable.length + position
      throw new ForeignVariableError(
        `the model assigns variable ${variable.name} during a training step, which ` +
          (trainable.includes(variable) ? 'the optimizer updates' : 'is not among its weights or params') +
          ': assign only variables that are not trained, and list them',
      )
    })
    const outputs = [...results, ...recording.assigned.values()]
    const constants = new Map([...recording.constants].map(([value, { data }]) => [value, data]))
    const { randoms, nodes } = recording
    return { recording, graph: { params, inputs: values, randoms, constants, nodes, outputs, updated } }
  })
}

function differentiated(
  run: () => tf.Tensor[],
  trainable: readonly tf.Variable[],
  recording: Recording,
): tf.Tensor[] {
  let outputs: tf.Tensor[] = []
  const lossOf = () => {
    outputs = run()
    nameBackward(recording)
    return outputs[0]!
  }
  const { grads } = gradientsOf(lossOf, trainable, gradientTable)
  const gradient = (variable: tf.Variable): tf.Tensor => {
    const found = grads[variable.name]
    if (found != null) return found
    return recording.tensor(recording.constant(new Float32Array(variable.size), variable.shape, 'float32'))
  }
  return [...outputs, ...trainable.map(gradient)]
}

/** Makes what the backward pass records name the layers of the forward pass, up to the sums of several gradients. */
function nameBackward(recording: Recording): void {
  const layerOf = new Map(recording.nodes.flatMap(({ outputs, layer }) => outputs.map((v) => [v, layer])))
  for (const node of tf.engine().state.activeTape ?? []) {
    const { gradient } = node
    const layer = layerOf.get(recording.lookUp(node.outputs[0]!))
    const scope = layer === undefined ? [] : [`${layer} (backward)`]
    const enter = () => recording.layers.splice(0, recording.layers.length, ...scope)
    if (!gradient) continue
    node.gradient = (dys) => {
      enter()
      const gradients = Object.entries(gradient(dys))
      return Object.fromEntries(
        gradients.map(([input, compute]) => [
          input,
          () => {
            enter()
            return compute()
          },
        ]),
      )
    }
  }
}

const REPEATED = 'which a recorded training step would repeat at every step'

/** What differs between two traces was drawn at random in JavaScript. */
function refuseFrozenRandomness(first: Traced, second: Traced): void {
  if (printGraph(first.graph) !== printGraph(second.graph)) {
    throw new UntraceableError(
      `the model computes something else each time it is called (Math.random, Date or a counter?), ${REPEATED}; ` +
        'make it depend on its inputs and variables alone',
    )
  }
  const others = [...second.recording.constants.values()]
  let i = 0
  for (const { data, where } of first.recording.constants.values()) {
    const other = others[i++]?.data
    if (data.length === other?.length && data.every((n, k) => Object.is(n, other[k]))) continue
    throw new UntraceableError(
      `the model draws random numbers ${where}, ${REPEATED}; use ` +
        'tf.layers.dropout, which is redrawn, or pass the random tensor as an input',
    )
  }
}
