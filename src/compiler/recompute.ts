/**
 * Activation recomputation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; PyTorch's checkpointing).
 * The forward pass is cut into segments. Of each only what later ones read is kept; whatever else the backward pass reads
 * is computed once more from that, when the backward pass gets there. It rewrites a kernel graph and runs nothing.
 */
import type { KernelGraph, KernelNode, Value } from './graph.js'
import { AGAIN } from './ops/again.js'
import { EXCHANGE } from './ops/exchange.js'
import { activationsOf, type Cutting, cheapestCuts } from './recompute-cuts.js'

export interface RecomputeRequest extends Cutting {
  /** The outputs of the graph that its forward pass makes. */
  readonly forward: readonly Value[]
  /** What differs from pass to pass, besides inputs and random numbers. */
  readonly given?: readonly Value[]
}

/** A kernel of the forward pass that the backward pass repeats. */
interface Repeated {
  readonly node: KernelNode
  readonly segment: number
}

/** The graph that keeps less for its backward pass; as it was where nothing would be saved. */
export function recomputed(graph: KernelGraph, request: RecomputeRequest): KernelGraph {
  const forward = nodesFor(graph, request.forward)
  const backward = graph.nodes.filter((node) => !forward.has(node))
  const inOrder = [...forward]
  const varying = varyingIn(graph, request.given ?? [])
  const isAlone = (request.inFlight ?? 1) === 1
  // What a pass has sent on need not stay until it comes back.
  const sent = isAlone ? [] : request.forward
  const outputs = graph.outputs.filter((value) => !sent.includes(value))
  const activations = activationsOf(inOrder, backward, outputs, varying)
  const ends = cheapestCuts(activations, inOrder.length, request)
  // The backward pass begins where the last segment ends, and finds it as it is; unless other passes run in between.
  const count = ends.length - Number(isAlone)

  const segmentAt = (position: number) => ends.findIndex((end) => position < end)
  const isKept = ({ madeAt, lastReadAt }: (typeof activations)[number]) =>
    lastReadAt >= ends[segmentAt(madeAt)]!
  const kept = new Set(activations.filter(isKept).flatMap(({ values }) => values))
  const repeated = new Map<Value, Repeated>()
  for (const [i, node] of inOrder.entries()) {
    const segment = segmentAt(i)
    // Ranks would have to exchange in one order, and may be cut differently.
    if (segment >= count || node.kernel === EXCHANGE) continue
    for (const value of node.outputs)
      if (varying.has(value) && !kept.has(value)) repeated.set(value, { node, segment })
  }
  return new Rewriting(graph, repeated, varying).graphOf(inOrder, backward)
}

class Rewriting {
  private readonly nodes: KernelNode[] = []
  private readonly again = new Map<Value, Value>()
  /** Of each segment what its kernels must wait for, and what they read of it, once that is there. */
  private readonly starts = new Map<number, { readonly after: Value; readonly given: Map<Value, Value> }>()
  /** What the backward pass has come to. */
  private latest: Value
  private nextId: number

  constructor(
    private readonly graph: KernelGraph,
    private readonly repeated: ReadonlyMap<Value, Repeated>,
    private readonly varying: ReadonlySet<Value>,
  ) {
    const { inputs, params, nodes } = graph
    this.latest = [...inputs, ...params].find(isNumber)!
    this.nextId = 1 + Math.max(...nodes.flatMap(({ outputs }) => outputs.map(({ id }) => id)))
  }

  /** Kernels are repeated where the backward pass first reads what they make. */
  graphOf(forward: readonly KernelNode[], backward: readonly KernelNode[]): KernelGraph {
    this.nodes.push(...forward)
    for (const node of backward) {
      this.nodes.push({ ...node, inputs: node.inputs.map((value) => value && this.repeat(value)) })
      this.latest = node.outputs.find((value) => this.varying.has(value) && isNumber(value)) ?? this.latest
    }
    return { ...this.graph, nodes: this.nodes }
  }

  /** What the backward pass reads instead of `value`. */
  private repeat(value: Value): Value {
    const maker = this.repeated.get(value)
    if (maker === undefined) return value
    const known = this.again.get(value)
    if (known !== undefined) return known
    const { node, segment } = maker
    const start = this.starts.get(segment) ?? { after: this.latest, given: new Map() }
    this.starts.set(segment, start)
    const inputs = node.inputs.map((input) => {
      if (input === undefined || !this.varying.has(input)) return input
      return this.repeated.has(input) ? this.repeat(input) : this.given(input, start)
    })
    const outputs = node.outputs.map((output) => this.fresh(output))
    for (const [i, output] of node.outputs.entries()) this.again.set(output, outputs[i]!)
    const layer = node.layer === undefined ? {} : { layer: `${node.layer} (recomputed)` }
    this.nodes.push({ ...node, ...layer, inputs, outputs })
    return this.again.get(value)!
  }

  /** What is kept, for the kernels of one segment. */
  private given(value: Value, { after, given }: { after: Value; given: Map<Value, Value> }): Value {
    const known = given.get(value)
    if (known !== undefined) return known
    const output = this.fresh(value)
    given.set(value, output)
    this.nodes.push({ kernel: AGAIN, inputs: [value, after], attrs: {}, outputs: [output] })
    return output
  }

  private fresh({ shape, dtype }: Value): Value {
    return { id: this.nextId++, shape, dtype }
  }
}

const isNumber = ({ dtype, shape }: Value) => dtype === 'float32' && !shape.includes(0)

/** The nodes that some outputs need, in their order. */
function nodesFor({ nodes }: KernelGraph, outputs: readonly Value[]): Set<KernelNode> {
  const read = new Set<Value | undefined>(outputs)
  const found = nodes.toReversed().filter((node) => {
    if (!node.outputs.some((value) => read.has(value))) return false
    for (const value of node.inputs) read.add(value)
    return true
  })
  return new Set(found.reverse())
}

/** All values that differ from pass to pass. */
function varyingIn({ inputs, randoms, nodes }: KernelGraph, given: readonly Value[]): Set<Value> {
  const varying = new Set<Value>([...inputs, ...randoms.map(({ value }) => value), ...given])
  for (const node of nodes)
    if (node.inputs.some((value) => value && varying.has(value)))
      for (const value of node.outputs) varying.add(value)
  return varying
}
