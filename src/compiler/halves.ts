/**
 * Cuts a lowered training pass in two: what its forward outputs need, and the rest. What the first makes and the second
 * reads is *carried*, as between other segments; views of what is carried anyway are made again. It runs nothing.
 */
import type { Lowered } from './lower.js'
import type { OnnxNode } from './onnx.js'
import { needed, readyFirstLast } from './order.js'
import type { Segment } from './segments.js'

/** @param first the outputs that the forward half makes, by name; the backward half has no nodes when there are no others */
export function halves(
  { onnx, nodes, ends }: Lowered,
  first: ReadonlySet<string>,
): { readonly forward: Segment; readonly backward: Segment } {
  const isFirst = ({ outputs }: OnnxNode) => first.has(outputs[0]!)
  const [firstEnds, lastEnds] = [ends.filter(isFirst), ends.filter((end) => !isFirst(end))]
  const early = needed(nodes, firstEnds)
  const earlyNames = new Set(early.flatMap(({ outputs }) => outputs))
  const late = nodes.filter((node) => !earlyNames.has(node.outputs[0]!))
  const read = readBy([...late, ...lastEnds])
  // Copies nothing in onnxruntime, while carrying it would keep the same numbers twice.
  const reshapes = early.filter(({ op, outputs }) => op === 'Reshape' && read.has(outputs[0]!))
  const lateNodes = [...reshapes, ...late]
  const made = new Set(lateNodes.flatMap(({ outputs }) => outputs))
  const carried = [...readBy([...lateNodes, ...lastEnds])].filter(
    (name) => earlyNames.has(name) && !made.has(name),
  )
  const segment = (own: readonly OnnxNode[], ownEnds: readonly OnnxNode[]) => {
    const reads = readBy([...own, ...ownEnds])
    const named = new Set(ownEnds.flatMap(({ outputs }) => outputs))
    return {
      nodes: readyFirstLast(own, ownEnds),
      constants: onnx.constants.filter(({ name }) => reads.has(name)),
      inputs: onnx.inputs.filter(({ name }) => reads.has(name)),
      outputs: onnx.outputs.filter(({ name }) => named.has(name)),
    }
  }
  return {
    forward: { ...segment(early, firstEnds), carriedIn: [], carriedOut: carried },
    backward: { ...segment(lateNodes, lastEnds), carriedIn: carried, carriedOut: [] },
  }
}

const readBy = (nodes: readonly OnnxNode[]) => new Set(nodes.flatMap(({ inputs }) => inputs))
