/**
 * Mixed precision (Micikevicius et al. 2018): which nodes of a lowered graph compute in 16 bits, chosen as torch.autocast
 * does, and the casts around them. Inputs and outputs, so parameters and gradients, stay float32. It runs nothing.
 *
 * Products (matrices, convolutions) take operands of 16 bits. What moves, adds or multiplies numbers element by element
 * stays in 16 bits where it was given them. All else (softmax, norms, losses, reductions) computes in float32.
 */
import type { Exchanges } from './exchanges.js'
import type { Lowered } from './lower.js'
import type { OnnxNode, OnnxTensor } from './onnx.js'
import { readyFirstLast } from './order.js'
import type { Segment } from './segments.js'

export interface Autocast {
  readonly type: 'float16' | 'bfloat16'
  /**
   * Whether kernels of that type compute. Otherwise kernels of float32 do, on rounded operands, and their results are
   * rounded: the same numbers, but for what a GPU accumulates in.
   */
  readonly native: boolean
}

/** TensorProto.DataType, of what is cast to. */
const TYPES = { float32: 1, float16: 10, bfloat16: 16 } as const
/** Of the largest finite number. */
const LARGEST = { float16: 65504, bfloat16: 3.3895313892515355e38 } as const

/** A product with a constant is a sum over rows (Builder.sumRows), and a reduction. */
const PRODUCTS = new Set(['MatMul', 'FusedMatMul', 'Gemm', 'Conv', 'ConvTranspose', 'Einsum'])
/** Of these opset 21 knows no bfloat16: there they compute in float32, unless they are rounded anyway. */
const NOT_IN_BFLOAT16 = new Set(['Conv', 'ConvTranspose', 'Einsum', 'MaxPool'])
/** Which inputs are the numbers that are computed with: all, unless positions are listed. */
type Operands = 'all' | readonly number[]
const ARITHMETIC: Readonly<Record<string, Operands>> = { Add: 'all', Sub: 'all', Mul: 'all' }
/** They round nothing. */
const MOVES: Readonly<Record<string, Operands>> = {
  Concat: 'all',
  Expand: [0],
  Gather: [0],
  Identity: [0],
  MaxPool: [0],
  Pad: [0, 2],
  Relu: [0],
  ReorderInput: [0],
  ReorderOutput: [0],
  Reshape: [0],
  Slice: [0],
  Split: [0],
  Squeeze: [0],
  Tile: [0],
  Transpose: [0],
  Unsqueeze: [0],
  Where: [1, 2],
}

/** The same graph, products in 16 bits. */
export function autocast(lowered: Lowered, { type, native }: Autocast): Lowered {
  const half = new Casts(lowered, type, native)
  for (const node of lowered.nodes) half.take(node)
  const ends = lowered.ends.map((end) => ({ ...end, inputs: end.inputs.map((name) => half.inFloat32(name)) }))
  const { nodes } = half
  return { ...lowered, nodes, ends, onnx: { ...lowered.onnx, nodes: readyFirstLast(nodes, ends) } }
}

/** What segments carry to each other, in float32 (Node has no arrays of bfloat16): there and back nothing is lost. */
export function carriedInFloat32(segments: readonly Segment[], { type }: Autocast): Segment[] {
  const isHalf = (name: string) => name.endsWith(HALF)
  const carried = (name: string) => (isHalf(name) ? `${name}/carried` : name)
  return segments.map((segment) => ({
    ...segment,
    nodes: [
      ...segment.carriedIn.filter(isHalf).map((name, i) => castNode(carried(name), name, type, i)),
      ...segment.nodes,
      ...segment.carriedOut.filter(isHalf).map((name, i) => castNode(name, carried(name), 'float32', i)),
    ],
    carriedIn: segment.carriedIn.map(carried),
    carriedOut: segment.carriedOut.map(carried),
  }))
}

const HALF = '/half'

class Casts {
  readonly nodes: OnnxNode[] = []
  /** Values of 16 bits, by the names that they have in float32: native ones are called `name/half`, others are rounded. */
  private readonly halves = new Set<string>()
  private readonly made = new Set<string>()
  private readonly params: ReadonlySet<string>
  private readonly constants: ReadonlyMap<string, OnnxTensor>
  private readonly exchanges: Exchanges

  constructor(
    { params, onnx, exchanges }: Lowered,
    private readonly type: Autocast['type'],
    private readonly native: boolean,
  ) {
    this.params = new Set(params)
    this.constants = new Map(onnx.constants.map((constant) => [constant.name, constant]))
    this.exchanges = exchanges
  }

  take(node: OnnxNode): void {
    const operands = this.operandsOf(node)
    if (operands === undefined) {
      this.nodes.push({ ...node, inputs: node.inputs.map((name) => this.inFloat32(name, node)) })
      return
    }
    const inputs = node.inputs.map((name, i) =>
      name !== '' && (operands === 'all' || operands.includes(i)) ? this.inHalf(name, node) : name,
    )
    // The second output of MaxPool are positions.
    const results = node.op === 'MaxPool' ? node.outputs.slice(0, 1) : node.outputs
    const [moves, result] = [node.op in MOVES, this.native ? HALF : '/exact']
    const renamed = (name: string) =>
      results.includes(name) && (this.native || !moves) ? `${name}${result}` : name
    this.nodes.push({ ...node, inputs, outputs: node.outputs.map(renamed) })
    for (const name of results) {
      if (!this.native && !moves) this.round(renamed(name), name, node)
      this.halves.add(name)
      // Exchanged for another value under its name: what was before is not to be read any more.
      if (this.exchanges.has(name)) this.halves.delete(this.inFloat32(name, node))
    }
  }

  inFloat32(name: string, reader?: OnnxNode): string {
    if (this.native && this.halves.has(name)) this.cast(`${name}${HALF}`, name, 'float32', reader)
    return name
  }

  private inHalf(name: string, reader: OnnxNode): string {
    if (!this.native) {
      if (this.halves.has(name)) return name
      this.round(name, `${name}/rounded`, reader)
      return `${name}/rounded`
    }
    if (!this.halves.has(name)) this.cast(name, `${name}${HALF}`, this.type, reader)
    return `${name}${HALF}`
  }

  /** The inputs that a node should read in 16 bits; undefined: none, it computes in float32. */
  private operandsOf({ op, inputs }: OnnxNode): Operands | undefined {
    if (this.native && this.type === 'bfloat16' && NOT_IN_BFLOAT16.has(op)) return undefined
    if (PRODUCTS.has(op)) return inputs.some((name) => this.constants.has(name)) ? undefined : 'all'
    const operands = ARITHMETIC[op] ?? MOVES[op]
    if (operands === undefined) return undefined
    const names = inputs.filter((name, i) => name !== '' && (operands === 'all' || operands.includes(i)))
    const suits = (name: string) => this.halves.has(name) || this.params.has(name) || this.fits(name)
    return names.some((name) => this.halves.has(name)) && names.every(suits) ? operands : undefined
  }

  /** Whether it is a constant that 16 bits can hold: not the -1e9 of a mask in float16. */
  private fits(name: string): boolean {
    const constant = this.constants.get(name)
    if (constant?.type !== 'float32') return false
    const { buffer, byteOffset, byteLength } = constant.bytes
    const values = new Float32Array(buffer, byteOffset, byteLength / 4)
    return values.every((value) => Math.abs(value) <= LARGEST[this.type])
  }

  private round(from: string, to: string, reader: OnnxNode): void {
    this.cast(from, `${to}${HALF}`, this.type, reader)
    this.cast(`${to}${HALF}`, to, 'float32', reader)
  }

  /** Once, however often it is asked for. */
  private cast(from: string, to: string, type: keyof typeof TYPES, reader?: OnnxNode): void {
    if (this.made.has(to)) return
    this.made.add(to)
    this.nodes.push(castNode(from, to, type, this.nodes.length, reader?.name))
  }
}

/** @param reader the name of the node that it is for, `layer/kernel#n`: a profile counts it to the same layer */
function castNode(from: string, to: string, type: keyof typeof TYPES, number: number, reader = ''): OnnxNode {
  const layer = reader.slice(0, reader.lastIndexOf('/') + 1)
  const name = `${layer}Cast#${number}`
  return { name, op: 'Cast', inputs: [from], outputs: [to], attributes: { to: TYPES[type] } }
}
