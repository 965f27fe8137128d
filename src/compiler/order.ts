/**
 * In which order onnxruntime computes. It walks back from the nodes that nobody reads, the last in the list first, and
 * lets nobody say otherwise. Left alone it computes all filters' and weights' gradients at the end, when what they are
 * made of has long left the cache, and all of it has to be kept until then.
 */
import type { OnnxNode } from './onnx.js'

/** The nodes without those that no output needs. */
export function needed(nodes: readonly OnnxNode[], outputs: readonly OnnxNode[]): OnnxNode[] {
  const read = new Set(outputs.flatMap(({ inputs }) => inputs))
  const kept = nodes.toReversed().filter((node) => {
    if (!node.outputs.some((name) => read.has(name))) return false
    for (const name of node.inputs) read.add(name)
    return true
  })
  return kept.toReversed()
}

/** The same nodes, still after what they read; of those that nobody reads the one that is ready first comes last. */
export function readyFirstLast(nodes: readonly OnnxNode[], outputs: readonly OnnxNode[]): OnnxNode[] {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs))
  const isEnd = (node: OnnxNode) => !node.outputs.some((name) => read.has(name))
  const made = new Map(nodes.flatMap((node, i) => node.outputs.map((name) => [name, i] as const)))
  const readyAt = ({ inputs }: OnnxNode) => made.get(inputs[0]!) ?? -1
  return [
    ...nodes.filter((node) => !isEnd(node)),
    ...nodes.filter(isEnd).reverse(),
    ...outputs.toSorted((a, b) => readyAt(b) - readyAt(a)),
  ]
}
