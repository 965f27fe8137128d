/** Kernel graph -> ONNX graph: every node lowered in order by its op, inputs and outputs named. */
import { Builder } from './builder.js'
import { type Exchanges, exchangesOf } from './exchanges.js'
import type { KernelGraph, Spec, Value } from './graph.js'
import type { OnnxGraph, OnnxNode, OnnxValue } from './onnx.js'
import { opFor } from './ops/index.js'
import { needed, readyFirstLast } from './order.js'

/** Names of the ONNX graph's inputs and outputs, in the kernel graph's order. */
export interface Lowered {
  readonly onnx: OnnxGraph
  /** The nodes of `onnx` in the order of the trace, and those at the end that name the outputs. */
  readonly nodes: readonly OnnxNode[]
  readonly ends: readonly OnnxNode[]
  readonly params: readonly string[]
  readonly inputs: readonly string[]
  readonly randoms: readonly string[]
  readonly outputs: readonly string[]
  /** Values that are exchanged for others before anybody reads them. */
  readonly exchanges: Exchanges
}

/**
 * @param block channels in a block of onnxruntime's direct convolutions; undefined: none of them.
 * @param portable operators of the ONNX standard alone; without `block`
 */
export function lower(graph: KernelGraph, block?: number, portable = false): Lowered {
  const builder = new Builder(block, portable)
  const named = (prefix: string, values: readonly Value[]) =>
    values.map((value, i) => {
      builder.define(value, `${prefix}${i}`)
      return `${prefix}${i}`
    })
  const params = named('param', graph.params)
  const inputs = named('input', graph.inputs)
  const randomValues = graph.randoms.map(({ value }) => value)
  const randoms = named('random', randomValues)
  for (const [value, data] of graph.constants) {
    builder.define(value, builder.constant(value.dtype, value.shape, data))
  }
  for (const node of graph.nodes) {
    builder.scope = node.layer === undefined ? node.kernel : `${node.layer}/${node.kernel}`
    opFor(node.kernel)!.lower(builder, node)
  }
  builder.scope = 'output'
  // Each output gets a name of its own, also when it is an input or another output too.
  const ends = graph.outputs.map((value, i) => ({
    op: 'Identity',
    inputs: [builder.plain(value)],
    outputs: [`output${i}`],
    attributes: {},
  }))
  const outputs = ends.flatMap((node) => node.outputs)
  const described = (names: readonly string[], specs: readonly Spec[]): OnnxValue[] =>
    names.map((name, i) => ({ name, type: specs[i]!.dtype, shape: specs[i]!.shape }))
  const nodes = needed(builder.nodes, ends)
  const onnx = {
    nodes: readyFirstLast(nodes, ends),
    constants: builder.constants,
    inputs: [
      ...described(params, graph.params),
      ...described(inputs, graph.inputs),
      ...described(randoms, randomValues),
    ],
    outputs: described(outputs, graph.outputs),
  }
  const exchanges = exchangesOf(graph, (value) => builder.plain(value))
  return { onnx, nodes, ends, params, inputs, randoms, outputs, exchanges }
}
