/**
 * Programs whose variables are in memory for a while only: a graph is cut so that each segment reads few *units* of
 * variables, and before a segment runs its units are brought to places that others have left. Gradients are made unit by
 * unit, from the last to the first. It does not know where variables are brought from.
 */
import type { Lowered } from './lower.js'
import type { OnnxNode } from './onnx.js'
import { pieceOf, type Segment, seenBy, viewsOf, withViews } from './segments.js'

export interface Streaming {
  /** Trainable variables that come together, by position. */
  readonly units: readonly (readonly number[])[]
  /** Whether the next segment's units may be brought while one runs. */
  readonly ahead: boolean
  /** Where a variable lies while its unit is at `place`. */
  viewAt(variable: number, place: number): Float32Array | Uint16Array
  /** Brings a unit to `place` (0, 1, … as many as the graph needs at a time), whatever was there. */
  bring(unit: number, place: number): Promise<void>
}

interface Load {
  readonly unit: number
  readonly place: number
}

export interface StreamPlan {
  readonly segments: readonly Segment[]
  /** What must have been brought before each segment. */
  readonly loads: readonly (readonly Load[])[]
  /** Where each segment finds the variables that it reads, by name. */
  readonly places: readonly ReadonlyMap<string, number>[]
}

/** Names of a unit's variables and of their gradients. */
interface NamedUnit {
  readonly params: readonly string[]
  readonly gradients: readonly string[]
}

/** What only lays out a variable anew is done again by every segment that reads it, and not kept between them. */
const LAYOUTS = new Set(['Cast', 'Reshape', 'Transpose', 'Slice', 'Squeeze', 'Unsqueeze', 'ReorderInput'])

export function cutStreamed(
  { onnx, nodes, ends }: Lowered,
  units: readonly NamedUnit[],
  ahead: boolean,
): StreamPlan {
  const unitOf = new Map(units.flatMap(({ params }, unit) => params.map((name) => [name, unit] as const)))
  const laidOut = layoutsOf(nodes, unitOf, new Set(onnx.constants.map(({ name }) => name)))
  const remade = new Map([...viewsOf(nodes, onnx), ...laidOut])
  const own = nodes.filter(({ outputs }) => !remade.has(outputs[0]!))
  const unitsRead = (node: OnnxNode) => new Set(node.inputs.flatMap((name) => unitOf.get(name) ?? []))

  // A segment goes on until a node reads a unit that is not among those of the segment.
  const needs: Set<number>[] = [new Set()]
  const madeIn = new Map<string, number>()
  const segmentOf = new Map<OnnxNode, number>()
  for (const node of own) {
    const read = unitsRead(node)
    const current = needs.at(-1)!
    if (current.size === 0) for (const unit of read) current.add(unit)
    else if ([...read].some((unit) => !current.has(unit))) needs.push(read)
    segmentOf.set(node, needs.length - 1)
    for (const name of node.outputs) madeIn.set(name, needs.length - 1)
  }
  // Each unit's gradients in a segment of its own, as they share a place: those made early wait.
  const readyIn = (end: OnnxNode) => madeIn.get(seenBy(end.inputs[0]!, remade)) ?? 0
  const dueIn = new Map<string, number>()
  let due = -1
  for (const { gradients } of units.toReversed()) {
    const made = ends.filter(({ outputs }) => gradients.includes(outputs[0]!)).map(readyIn)
    due = Math.max(due + 1, ...made)
    for (const name of gradients) dueIn.set(name, due)
  }
  for (const end of ends) segmentOf.set(end, dueIn.get(end.outputs[0]!) ?? readyIn(end))
  while (needs.length <= due) needs.push(new Set())
  for (const end of ends) for (const unit of unitsRead(end)) needs[segmentOf.get(end)!]!.add(unit)

  const within = (list: readonly OnnxNode[], segment: number) =>
    list.filter((node) => segmentOf.get(node) === segment)
  const segments = needs.map((_, segment) => {
    const [mine, myEnds] = [within(own, segment), within(ends, segment)]
    const later = [...own, ...ends].filter((node) => segmentOf.get(node)! > segment)
    const isMade = (name: string) => madeIn.has(name)
    return pieceOf(onnx, withViews(mine, myEnds, remade), myEnds, isMade, withViews(later, [], remade))
  })
  const { loads, held } = placesFor(needs, ahead)
  const places = segments.map(
    ({ inputs }, segment) =>
      new Map(
        inputs.flatMap(({ name }) => {
          const unit = unitOf.get(name)
          return unit === undefined ? [] : [[name, held[segment]!.get(unit)!] as const]
        }),
      ),
  )
  return { segments, loads, places }
}

/** Nodes that only lay out variables of one unit anew, by what they make; `unitOf` learns that, too. */
function layoutsOf(
  nodes: readonly OnnxNode[],
  unitOf: Map<string, number>,
  constants: ReadonlySet<string>,
): Map<string, OnnxNode> {
  const found = new Map<string, OnnxNode>()
  for (const node of nodes) {
    const [first, ...others] = node.inputs
    const unit = unitOf.get(first!)
    if (unit === undefined || !LAYOUTS.has(node.op) || !others.every((name) => constants.has(name))) continue
    for (const name of node.outputs) {
      found.set(name, node)
      unitOf.set(name, unit)
    }
  }
  return found
}

/** Which unit goes where, and when: as few places as the segments need. */
function placesFor(needs: readonly ReadonlySet<number>[], ahead: boolean) {
  const resident: number[] = []
  const loads: Load[][] = []
  const held: ReadonlyMap<number, number>[] = []
  for (const [segment, units] of needs.entries()) {
    const kept = new Set([...units, ...((ahead && needs[segment - 1]) || [])])
    const brought: Load[] = []
    for (const unit of units) {
      if (resident.includes(unit)) continue
      const free = resident.findIndex((other) => !kept.has(other))
      const place = free < 0 ? resident.length : free
      resident[place] = unit
      brought.push({ unit, place })
    }
    loads.push(brought)
    held.push(new Map([...units].map((unit) => [unit, resident.indexOf(unit)])))
  }
  return { loads, held }
}

/** Brings units in time for each segment of a run. */
export class Stream {
  private arriving: Promise<unknown>[] = []

  constructor(
    private readonly plan: StreamPlan,
    private readonly streaming: Streaming,
  ) {}

  /** Settles when the segment may run. */
  async before(segment: number): Promise<void> {
    if (segment === 0) this.arriving = []
    await this.arrival(segment)
    if (this.streaming.ahead && segment + 1 < this.plan.loads.length) void this.arrival(segment + 1)
  }

  private arrival(segment: number): Promise<unknown> {
    const { plan, streaming, arriving } = this
    if (arriving[segment] === undefined) {
      const all = Promise.all(plan.loads[segment]!.map(({ unit, place }) => streaming.bring(unit, place)))
      all.catch(() => {}) // thrown by before(), which may come later
      arriving[segment] = all
    }
    return arriving[segment]!
  }
}
