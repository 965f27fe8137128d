/**
 * A model's forward pass as the bytes of a portable ONNX file: operators of the standard alone, weights inside, names that
 * a reader knows from the model. It writes no file and runs nothing.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { LockstepError } from '../errors.js'
import { forAnyBatch } from './export-batch.js'
import type { KernelGraph, Numbers, Spec } from './graph.js'
import type { Layer } from './layers/index.js'
import { type Lowered, lower } from './lower.js'
import { encodeModel, type OnnxGraph, type OnnxTensor, type OnnxValue } from './onnx.js'
import { simplify } from './simplify.js'
import { trace } from './trace.js'

export interface ExportRequest {
  readonly weights: readonly {
    readonly name: string
    readonly variable: tf.Variable
    readonly data: Numbers
  }[]
  readonly layers: readonly Layer[]
  /** The batch is the first dimension of each, and replaced by `batch`. */
  readonly inputs: readonly (Spec & { readonly name: string })[]
  readonly outputNames: readonly string[]
  /** A size that the file is good for, or any: dimension `N`. */
  readonly batch: number | 'dynamic'
  body(inputs: tf.Tensor[]): tf.Tensor[]
}

/** Two sizes that appear in no model by chance: what differs between the graphs for them depends on the batch. */
const SIZES = [997, 1009] as const

/**
 * @throws UntraceableError (see `trace`); LockstepError when `batch` is 'dynamic' and the graph for one size is more than
 *   sizes away from the graph for another, naming the layer.
 */
export function exportModel(request: ExportRequest): Uint8Array {
  const { batch } = request
  if (batch !== 'dynamic') return encodeModel(portable(request, batch))
  const [one, other] = SIZES.map((size) => portable(request, size))
  return encodeModel(forAnyBatch({ size: SIZES[0], graph: one! }, { size: SIZES[1], graph: other! }))
}

/** The graph for one batch size, under the request's names and with the weights as constants. */
function portable(request: ExportRequest, batch: number): OnnxGraph {
  const { weights, layers, body } = request
  const inputs = request.inputs.map(({ shape, dtype }) => ({ shape: [batch, ...shape.slice(1)], dtype }))
  const frozen = weights.map(({ variable }) => variable)
  const traced = explained(request, () => trace({ trainable: [], frozen, layers, inputs, body }))
  const lowered = lower(simplify(outputsOnly(traced)), undefined, true)
  const rename = renaming(request, lowered)
  const { onnx } = lowered
  const nodes = onnx.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }))
  const used = new Set(nodes.flatMap((node) => node.inputs))
  const asConstants = lowered.params.map((name, i): OnnxTensor => {
    const { data, variable } = weights[i]!
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    return { name: rename(name), type: variable.dtype as Spec['dtype'], shape: variable.shape, bytes }
  })
  const named = (value: OnnxValue) => ({ ...value, name: rename(value.name) })
  return {
    nodes,
    constants: [...asConstants.filter(({ name }) => used.has(name)), ...onnx.constants],
    inputs: onnx.inputs.filter(({ name }) => lowered.inputs.includes(name)).map(named),
    outputs: onnx.outputs.map(named),
  }
}

/** A model may be written for one batch size; TensorFlow.js then fails on shapes of its own. */
function explained<T>({ batch }: ExportRequest, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (batch !== 'dynamic' || cause instanceof LockstepError) throw cause
    throw new LockstepError(
      `the model does not run with a batch of ${SIZES[0]} (${(cause as Error).message.split('\n')[0]}): export it for one ` +
        'size with { batch: n }',
      { cause },
    )
  }
}

/** Without the new values of variables that a forward pass assigns. */
function outputsOnly(graph: KernelGraph): KernelGraph {
  return {
    ...graph,
    outputs: graph.outputs.slice(0, graph.outputs.length - graph.updated.length),
    updated: [],
  }
}

/** From the compiler's names of inputs, weights and outputs to the request's; everything else keeps its own. */
function renaming(
  request: ExportRequest,
  { params, inputs, outputs, onnx }: Lowered,
): (name: string) => string {
  const given = [...request.inputs, ...request.weights].map(({ name }) => name).concat(request.outputNames)
  const own = [...inputs, ...params, ...outputs]
  const renamed = new Set(own)
  const taken = new Set(
    [...onnx.nodes.flatMap((node) => node.outputs), ...onnx.constants.map(({ name }) => name)].filter(
      (name) => !renamed.has(name),
    ),
  )
  const names = new Map(
    own.map((name, i) => {
      let free = given[i]!
      for (let n = 1; taken.has(free); n++) free = `${given[i]}_${n}`
      taken.add(free)
      return [name, free]
    }),
  )
  return (name) => names.get(name) ?? name
}
