/**
 * Values that are exchanged for others while a program runs: how a model asks for it, and where a lowered graph is cut for
 * it. It knows no ranks; the exchange itself is the caller's.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { KernelGraph } from './graph.js'
import type { OnnxNode } from './onnx.js'
import { EXCHANGE, type ExchangeAttrs } from './ops/exchange.js'

/** Of values by their names in the lowered graph. */
export type Exchanges = ReadonlyMap<string, ExchangeAttrs['exchange']>

/**
 * What `attrs.exchange` makes of x, in place, between two segments of the recorded program. It has no gradient of its own:
 * to be called inside tf.customGrad, and only where `canExchange`.
 */
export function exchanged(x: tf.Tensor, attrs: ExchangeAttrs): tf.Tensor {
  // TensorFlow.js knows no attributes that are functions, and hands them on.
  return tf.engine().runKernel(EXCHANGE, { x }, { ...attrs } as unknown as tf.NamedAttrMap) as tf.Tensor
}

/** Whether kernels are being recorded, and not computed by a backend that has no exchanges. */
export function canExchange(): boolean {
  return tf.getKernel(EXCHANGE, tf.getBackend()) !== undefined
}

/** @param nameOf the name of a value in the lowered graph */
export function exchangesOf(
  { nodes }: KernelGraph,
  nameOf: (value: KernelGraph['outputs'][number]) => string,
): Exchanges {
  return new Map(
    nodes
      .filter(({ kernel }) => kernel === EXCHANGE)
      .map(({ outputs: [value], attrs }) => [nameOf(value!), (attrs as ExchangeAttrs).exchange]),
  )
}

/** Where segments end, in nodes: behind each exchange, and at the end, where there may be outputs without nodes. */
export function bordersBehind(exchanges: Exchanges, nodes: readonly OnnxNode[]): number[] {
  const behind = nodes.flatMap(({ outputs }, i) => (exchanges.has(outputs[0]!) ? [i + 1] : []))
  return [...behind, nodes.length + 1]
}
