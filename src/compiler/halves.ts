/**
 * Cuts a lowered training pass in two: what its forward outputs need, and the rest; and each half again behind every
 * exchange. What an earlier segment makes and a later one reads is *carried*, as everywhere; views of what is carried to the
 * second half anyway are made again. It runs nothing.
 */
import { bordersBehind } from './exchanges.js'
import type { Lowered } from './lower.js'
import type { OnnxNode } from './onnx.js'
import { needed } from './order.js'
import { pieceOf, type Segment } from './segments.js'

/** @param first the outputs that the forward half makes, by name; the backward half makes nothing when there are no others */
export function halves(
  { onnx, nodes, ends, exchanges }: Lowered,
  first: ReadonlySet<string>,
): { readonly forward: readonly Segment[]; readonly backward: readonly Segment[] } {
  const isFirst = ({ outputs }: OnnxNode) => first.has(outputs[0]!)
  const [firstEnds, lastEnds] = [ends.filter(isFirst), ends.filter((end) => !isFirst(end))]
  const early = needed(nodes, firstEnds)
  const earlyNames = namesOf(early)
  const late = nodes.filter((node) => !earlyNames.has(node.outputs[0]!))
  const read = readBy([...late, ...lastEnds])
  // Copies nothing in onnxruntime, while carrying it would keep the same numbers twice.
  const reshapes = early.filter(({ op, outputs }) => op === 'Reshape' && read.has(outputs[0]!))
  const lateNodes = [...reshapes, ...late]
  const made = namesOf(lateNodes)
  const carried = [...readBy([...lateNodes, ...lastEnds])].filter(
    (name) => earlyNames.has(name) && !made.has(name),
  )
  const isMade = (name: string) => earlyNames.has(name) || made.has(name)
  /** @param readLater what the other half reads of this one */
  const segments = (own: readonly OnnxNode[], ownEnds: readonly OnnxNode[], readLater: readonly string[]) => {
    const borders = bordersBehind(exchanges, own)
    const position = new Map(own.flatMap(({ outputs }, i) => outputs.map((name) => [name, i] as const)))
    const segmentOf = ({ inputs: [name] }: OnnxNode) => {
      const at = position.get(name!)
      // What is exchanged is there after the exchange.
      const ready = at === undefined ? 0 : at + Number(exchanges.has(name!))
      return borders.findIndex((border) => ready < border)
    }
    return borders.map((end, i) => {
      const ends = ownEnds.filter((node) => segmentOf(node) === i)
      const later = [
        ...own.slice(end),
        ...ownEnds.filter((node) => segmentOf(node) > i),
        { inputs: readLater },
      ]
      return pieceOf(onnx, own.slice(borders[i - 1] ?? 0, end), ends, isMade, later)
    })
  }
  return { forward: segments(early, firstEnds, carried), backward: segments(lateNodes, lastEnds, []) }
}

const readBy = (nodes: readonly OnnxNode[]) => new Set(nodes.flatMap(({ inputs }) => inputs))
const namesOf = (nodes: readonly OnnxNode[]) => new Set(nodes.flatMap(({ outputs }) => outputs))
