/**
 * The bytes that onnxruntime needs at once for what a graph makes: run in its order, each value freed after its last
 * reader. Shapes are those that onnxruntime infers; what a kernel needs inside is not counted.
 */
import { sizeOf } from '../../src/compiler/graph.js'
import type { Lowered } from '../../src/compiler/lower.js'
import type { OnnxNode } from '../../src/compiler/onnx.js'
import { Session } from '../../src/compiler/session.js'

const BYTES = { float32: 4, int32: 4, int64: 8, bool: 1, float16: 2, bfloat16: 2 } as const

export async function peakBytes({ onnx }: Lowered): Promise<number> {
  const named = new Set(onnx.outputs.map(({ name }) => name))
  const untyped = onnx.nodes.flatMap(({ outputs }) => outputs).filter((name) => !named.has(name))
  const session = await Session.create({ ...onnx, untyped }, { threads: 1 })
  const bytes = new Map(session.outputs.map(({ name, type, shape }) => [name, sizeOf(shape) * BYTES[type]]))
  await session.release()

  const order = executionOrder(onnx.nodes)
  const memory = new Map<string, string>()
  const root = (name: string) => memory.get(name) ?? name
  for (const { op, inputs, outputs } of order) if (op === 'Reshape') memory.set(outputs[0]!, root(inputs[0]!))
  const last = new Map(
    order.flatMap(({ inputs, outputs }, i) => [...inputs, ...outputs].map((name) => [root(name), i])),
  )
  const made = new Set(order.flatMap(({ outputs }) => outputs))
  let [now, peak] = [0, 0]
  for (const [i, { inputs, outputs }] of order.entries()) {
    for (const name of outputs) if (root(name) === name) now += bytes.get(name)!
    peak = Math.max(peak, now)
    for (const name of new Set([...inputs, ...outputs].map(root)))
      if (last.get(name) === i && made.has(name)) now -= bytes.get(name)!
  }
  return peak
}

/** Back from the nodes that nobody reads, the last in the list first (src/compiler/order.ts). */
function executionOrder(nodes: readonly OnnxNode[]): OnnxNode[] {
  const makers = new Map(nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const)))
  const read = new Set(nodes.flatMap(({ inputs }) => inputs))
  const done = new Set<OnnxNode>()
  const order: OnnxNode[] = []
  const visit = (node: OnnxNode | undefined) => {
    if (node === undefined || done.has(node)) return
    done.add(node)
    for (const name of node.inputs) visit(makers.get(name))
    order.push(node)
  }
  const isEnd = ({ outputs }: OnnxNode) => !outputs.some((name) => read.has(name))
  for (const node of nodes.filter(isEnd).toReversed()) visit(node)
  return order
}
