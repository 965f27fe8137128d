/**
 * What a traced pass fills besides parameters and gradients, as onnxruntime computes it: for how long each value is needed, and
 * what its arena takes for them. By the compiled graph; it runs nothing.
 */
import { blockSize } from './block-size.js'
import type { KernelGraph } from './graph.js'
import { lower } from './lower.js'
import type { OnnxGraph, OnnxNode } from './onnx.js'
import { Session } from './session.js'

/** Memory that one node fills. Reshaped it is the same memory. */
export interface Lifetime {
  readonly bytes: number
  /** Nodes by number, in the order of computing: the one that makes it, and the last that reads it. */
  readonly madeAt: number
  readonly lastReadAt: number
  /** Of the node that makes it, with ` (backward)` in the backward pass. */
  readonly layer: string | undefined
}

export interface Liveness {
  readonly values: readonly Lifetime[]
  /** The number of the node that makes the first output, a training pass's loss. */
  readonly lossAt: number
}

const VIEWS = new Set(['Reshape', 'Identity'])

export async function livenessOf(graph: KernelGraph): Promise<Liveness> {
  const { onnx, ends } = lower(graph, await blockSize())
  const bytes = await sizesIn(onnx)
  const nodes = inOrder(onnx.nodes)
  const outputs = new Set(onnx.outputs.map(({ name }) => name)) // written where the caller wants them
  const owners = new Map<
    string,
    { bytes: number; madeAt: number; lastReadAt: number; layer: string | undefined }
  >()
  for (const [i, node] of nodes.entries()) {
    for (const name of node.inputs) if (owners.has(name)) owners.get(name)!.lastReadAt = i
    for (const name of node.outputs.filter((output) => !outputs.has(output))) {
      const isView = VIEWS.has(node.op)
      const own = {
        bytes: isView ? 0 : (bytes.get(name) ?? 0),
        madeAt: i,
        lastReadAt: i,
        layer: layerOf(node),
      }
      owners.set(name, (isView && owners.get(node.inputs[0]!)) || own)
    }
  }
  const values = [...new Set(owners.values())].filter((value) => value.bytes > 0)
  return { values, lossAt: nodes.findIndex((node) => node.outputs.includes(ends[0]!.inputs[0]!)) }
}

/** What onnxruntime infers of a graph all of whose values are outputs. */
async function sizesIn(onnx: OnnxGraph): Promise<Map<string, number>> {
  const outputs = new Set(onnx.outputs.map(({ name }) => name))
  const untyped = onnx.nodes
    .flatMap((node) => node.outputs)
    .filter((name) => name !== '' && !outputs.has(name))
  const session = await Session.create({ ...onnx, untyped }, { threads: 1, quiet: true })
  const width = (type: string) => (type === 'int64' ? 8 : type === 'bool' ? 1 : 4)
  const sizes = session.outputs.map(
    ({ name, type, shape }) => [name, shape.reduce((a, b) => a * b, width(type))] as const,
  )
  await session.release()
  return new Map(sizes)
}

/** onnxruntime's order (order.ts): back from the nodes that nobody reads, the last in the list first. */
function inOrder(nodes: readonly OnnxNode[]): OnnxNode[] {
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)))
  const read = new Set(nodes.flatMap(({ inputs }) => inputs))
  const order = new Set<OnnxNode>()
  const visit = (first: OnnxNode) => {
    // Not recursive: a deep network would be deeper than the stack.
    const path = [{ node: first, next: 0 }]
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const name = top.node.inputs[top.next++]
      const maker = name === undefined ? undefined : makers.get(name)
      if (name === undefined) order.add(path.pop()!.node)
      else if (maker && !order.has(maker)) path.push({ node: maker, next: 0 })
    }
  }
  for (const node of nodes.toReversed()) if (!node.outputs.some((name) => read.has(name))) visit(node)
  return [...order]
}

/** Nodes are named `layer/kernel#n`, or `kernel#n` outside of layers. */
function layerOf({ name = '' }: OnnxNode): string | undefined {
  const end = name.lastIndexOf('/')
  return end === -1 ? undefined : name.slice(0, end)
}

/** What is there after node number `at` for those behind it. */
export function keptBytes(values: readonly Lifetime[], at: number): number {
  const kept = values.filter(({ madeAt, lastReadAt }) => madeAt <= at && lastReadAt > at)
  return kept.reduce((sum, { bytes }) => sum + bytes, 0)
}

interface Chunk {
  at: number
  size: number
  isFree: boolean
  readonly region: Chunk[]
}

const ROUND = 256
const FIRST_REGION = 2 ** 20
const MOST_WASTE = 128 * 2 ** 20

/**
 * What onnxruntime's arena (a best-fit allocator with coalescing) uses for them: more than the fullest moment, since a chunk is
 * split only where it has twice what is asked for.
 */
export function arenaBytes(values: readonly Lifetime[]): number {
  const regions: Chunk[][] = []
  /** The last byte used in each. */
  const used = new Map<Chunk[], number>()
  let nextRegion = FIRST_REGION
  const fitting = (size: number) => {
    const free = regions.flat().filter((chunk) => chunk.isFree && chunk.size >= size)
    return free.length === 0 ? undefined : free.reduce((a, b) => (b.size < a.size ? b : a))
  }
  const extended = (size: number) => {
    while (nextRegion < size) nextRegion *= 2
    const region: Chunk[] = []
    region.push({ at: 0, size: nextRegion, isFree: true, region })
    regions.push(region)
    nextRegion *= 2
    return region[0]!
  }
  const allocate = (bytes: number): Chunk => {
    const size = Math.ceil(bytes / ROUND) * ROUND
    const chunk = fitting(size) ?? extended(size)
    const { region } = chunk
    if (chunk.size >= 2 * size || chunk.size - size >= MOST_WASTE) {
      const rest = { at: chunk.at + size, size: chunk.size - size, isFree: true, region }
      region.splice(region.indexOf(chunk) + 1, 0, rest)
      chunk.size = size
    }
    chunk.isFree = false
    used.set(region, Math.max(used.get(region) ?? 0, chunk.at + bytes))
    return chunk
  }
  const release = (chunk: Chunk) => {
    chunk.isFree = true
    const { region } = chunk
    const i = region.indexOf(chunk)
    const [before, after] = [region[i - 1], region[i + 1]]
    if (after?.isFree) {
      chunk.size += after.size
      region.splice(i + 1, 1)
    }
    if (before?.isFree) {
      before.size += chunk.size
      region.splice(i, 1)
    }
  }
  const ends = values.toSorted((a, b) => a.lastReadAt - b.lastReadAt)
  const held = new Map<Lifetime, Chunk>()
  let ended = 0
  for (const value of values.toSorted((a, b) => a.madeAt - b.madeAt)) {
    for (; ended < ends.length && ends[ended]!.lastReadAt < value.madeAt; ended++)
      release(held.get(ends[ended]!)!)
    held.set(value, allocate(value.bytes))
  }
  return [...used.values()].reduce((a, b) => a + b, 0)
}
