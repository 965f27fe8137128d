/**
 * Cuts a lowered graph into consecutive segments, so that some gradients are there before the backward pass is done. It
 * runs nothing. What one segment makes and a later one reads is *carried*: an output here, an input there.
 */
import { bordersBehind } from './exchanges.js'
import type { Lowered } from './lower.js'
import type { OnnxNode, OnnxTensor, OnnxValue } from './onnx.js'
import { readyFirstLast } from './order.js'

export interface Segment {
  readonly nodes: readonly OnnxNode[]
  readonly constants: readonly OnnxTensor[]
  /** The graph's own inputs and outputs, as far as this segment reads or makes them. */
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  /** Names of values that earlier segments make, and of those that later ones read. */
  readonly carriedIn: readonly string[]
  readonly carriedOut: readonly string[]
}

/**
 * One segment for each list of gradients: one that is made earlier waits for its segment. The first has the forward pass, too.
 * A graph with exchanges is cut behind each of them, and nowhere else.
 * @param wanted names of outputs; what is in no list belongs to the segment that makes it
 */
export function cut(
  { onnx, nodes: all, ends, exchanges }: Lowered,
  wanted: readonly (readonly string[])[],
): Segment[] {
  const views = wanted.length === 1 && exchanges.size === 0 ? new Map() : viewsOf(all, onnx)
  const nodes = all.filter(({ outputs }) => !views.has(outputs[0]!))
  const madeAt = new Map(nodes.flatMap((node, i) => node.outputs.map((name) => [name, i] as const)))
  // What is exchanged is there after the exchange.
  const readyAt = ({ inputs }: OnnxNode) => {
    const name = seenBy(inputs[0]!, views)
    return (madeAt.get(name) ?? 0) + Number(exchanges.has(name))
  }
  const readiness = new Map(ends.map((end) => [end.outputs[0]!, readyAt(end)]))
  const borders =
    exchanges.size > 0 ? bordersBehind(exchanges, nodes) : bordersAfter(wanted, readiness, nodes.length)
  const segmentOf = new Map(
    ends.map((end) => {
      const ready = borders.findIndex((border) => readyAt(end) < border)
      return [
        end,
        Math.max(
          0,
          ready,
          wanted.findIndex((names) => names.includes(end.outputs[0]!)),
        ),
      ]
    }),
  )
  return borders.map((end, i) => {
    const start = borders[i - 1] ?? 0
    const own = nodes.slice(start, end)
    const ownEnds = ends.filter((node) => segmentOf.get(node) === i)
    const later = [...nodes.slice(end), ...ends.filter((node) => segmentOf.get(node)! > i)]
    const isMade = (name: string) => madeAt.has(name)
    return pieceOf(onnx, withViews(own, ownEnds, views), ownEnds, isMade, withViews(later, [], views))
  })
}

/**
 * Nodes that copy nothing, or that widen what the caller keeps in 16 bits, by what they make: a segment that reads it makes it
 * again, and carried it would be a copy.
 */
export function viewsOf(
  nodes: readonly OnnxNode[],
  { constants, inputs: given }: Lowered['onnx'],
): ReadonlyMap<string, OnnxNode> {
  const known = new Set(constants.map(({ name }) => name))
  const halves = new Set(given.filter(({ type }) => type.endsWith('float16')).map(({ name }) => name))
  const views = nodes.filter(({ op, inputs }) =>
    op === 'Reshape' ? known.has(inputs[1]!) : op === 'Cast' && halves.has(inputs[0]!),
  )
  return new Map(views.map((node) => [node.outputs[0]!, node]))
}

/** What `name` is a view of. */
export function seenBy(name: string, views: ReadonlyMap<string, OnnxNode>): string {
  const view = views.get(name)
  return view === undefined ? name : seenBy(view.inputs[0]!, views)
}

/** The nodes, and before the first of them or of `ends` that reads a view the node that makes it. */
export function withViews(
  nodes: readonly OnnxNode[],
  ends: readonly OnnxNode[],
  views: ReadonlyMap<string, OnnxNode>,
): OnnxNode[] {
  const placed = new Set<OnnxNode>()
  const visit = (node: OnnxNode) => {
    for (const name of node.inputs) {
      const view = views.get(name)
      if (view !== undefined && !placed.has(view)) visit(view)
    }
    placed.add(node)
  }
  for (const node of [...nodes, ...ends]) visit(node)
  for (const end of ends) placed.delete(end)
  return [...placed]
}

/**
 * The segment of these nodes and ends.
 * @param isMade whether a value is some node's, and not an input or a constant. @param later what comes after this segment
 */
export function pieceOf(
  onnx: Lowered['onnx'],
  own: readonly OnnxNode[],
  ownEnds: readonly OnnxNode[],
  isMade: (name: string) => boolean,
  later: readonly Pick<OnnxNode, 'inputs'>[],
): Segment {
  const made = new Set(own.flatMap(({ outputs }) => outputs))
  const reads = (all: readonly Pick<OnnxNode, 'inputs'>[]) => new Set(all.flatMap(({ inputs }) => inputs))
  const [read, readLater] = [reads([...own, ...ownEnds]), reads(later)]
  const named = new Set(ownEnds.flatMap(({ outputs }) => outputs))
  return {
    nodes: readyFirstLast(own, ownEnds),
    constants: onnx.constants.filter(({ name }) => read.has(name)),
    inputs: onnx.inputs.filter(({ name }) => read.has(name)),
    outputs: onnx.outputs.filter(({ name }) => named.has(name)) as OnnxValue[],
    carriedIn: [...read].filter((name) => isMade(name) && !made.has(name)),
    carriedOut: [...made].filter((name) => isMade(name) && readLater.has(name)),
  }
}

/** Where segments end, in nodes: as soon as all of their gradients are there. */
function bordersAfter(
  groups: readonly (readonly string[])[],
  readiness: ReadonlyMap<string, number>,
  length: number,
): number[] {
  let end = 0
  return groups.map((names, i) => {
    end = i === groups.length - 1 ? length : Math.max(end, ...names.map((name) => readiness.get(name)! + 1))
    return end
  })
}
