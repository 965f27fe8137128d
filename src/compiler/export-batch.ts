/**
 * Two graphs of one model, lowered for two batch sizes, made into one for any batch size N: what is the same in both
 * stays, and a size that grows with the batch is computed from the first input's shape. It knows ONNX graphs alone.
 */
import { LockstepError } from '../errors.js'
import type { OnnxGraph, OnnxNode, OnnxTensor, OnnxValue } from './onnx.js'

export interface Sized {
  readonly size: number
  readonly graph: OnnxGraph
}

/** The number `times` · N + `plus`. */
interface Size {
  readonly times: number
  readonly plus: number
}

/** @throws LockstepError naming the layer and kernel where the graphs differ in more than sizes. */
export function forAnyBatch(one: Sized, other: Sized): OnnxGraph {
  return new Merge(one, other).graph()
}

class Merge {
  private readonly nodes: OnnxNode[] = []
  private readonly constants = new Map<string, OnnxTensor>()
  /** Names of `other` -> names of `one`, for everything but constants, which are numbered in order of first use. */
  private readonly same = new Map<string, string>()
  private readonly made = new Map<string, string>()
  private readonly constantsOf: readonly [Map<string, OnnxTensor>, Map<string, OnnxTensor>]

  constructor(
    private readonly one: Sized,
    private readonly other: Sized,
  ) {
    const byName = ({ graph }: Sized) => new Map(graph.constants.map((tensor) => [tensor.name, tensor]))
    this.constantsOf = [byName(one), byName(other)]
  }

  graph(): OnnxGraph {
    const { one, other } = this
    one.graph.inputs.forEach(({ name }, i) => {
      this.same.set(other.graph.inputs[i]!.name, name)
    })
    one.graph.nodes.forEach((node, i) => {
      const twin = other.graph.nodes[i]
      if (twin === undefined || !this.alike(node, twin)) throw dependsOnBatch(node)
      const inputs = node.inputs.map((name, k) => this.input(node, name, twin.inputs[k]!))
      this.nodes.push({ ...node, inputs })
      twin.outputs.forEach((name, k) => {
        this.same.set(name, node.outputs[k]!)
      })
    })
    const values = (kind: 'inputs' | 'outputs') =>
      one.graph[kind].map((value, i) => this.symbolic(value, other.graph[kind][i]!))
    return {
      nodes: this.nodes,
      constants: [...this.constants.values()],
      inputs: values('inputs'),
      outputs: values('outputs'),
    }
  }

  private alike(a: OnnxNode, b: OnnxNode): boolean {
    const { one, other } = this
    return (
      one.graph.nodes.length === other.graph.nodes.length &&
      a.op === b.op &&
      a.inputs.length === b.inputs.length &&
      JSON.stringify(a.attributes) === JSON.stringify(b.attributes)
    )
  }

  /** What `node` reads: the same value, the same constant, or sizes computed from N. */
  private input(node: OnnxNode, name: string, twin: string): string {
    const [a, b] = [this.constantsOf[0].get(name), this.constantsOf[1].get(twin)]
    if (a === undefined && b === undefined && (this.same.get(twin) ?? twin) === name) return name
    if (a === undefined || b === undefined || a.type !== b.type) throw dependsOnBatch(node)
    if (`${a.shape}` === `${b.shape}` && Buffer.compare(a.bytes, b.bytes) === 0) return this.constant(a)
    const filled = this.filled(a, b)
    if (filled !== undefined) return filled
    const sizes = a.type === 'int64' && a.bytes.length === b.bytes.length ? this.sizes(a, b) : undefined
    if (sizes === undefined) throw dependsOnBatch(node)
    // A reshape can work out one size by itself.
    const grows = sizes.filter(({ times }) => times !== 0)
    const inferred = node.op === 'Reshape' && grows.length === 1 && sizes.every((s) => s.times || s.plus > 0)
    return inferred
      ? this.ints(sizes.map(({ times, plus }) => (times === 0 ? plus : -1)))
      : this.computed(sizes)
  }

  /** A tensor of one number, made for the batch (tf.zeros): expanded when the model runs. */
  private filled(a: OnnxTensor, b: OnnxTensor): string | undefined {
    const shape = a.shape.map((n, i) => this.size(n, b.shape[i] ?? -1))
    const width = a.bytes.length / a.shape.reduce((x, y) => x * y, 1)
    const first = a.bytes.slice(0, width)
    const alike = [a, b].every(({ bytes }) => bytes.every((byte, i) => byte === first[i % width]))
    if (!alike || a.shape.length !== b.shape.length || !shape.every((size) => size !== undefined))
      return undefined
    if (shape.every(({ times }) => times === 0)) return undefined
    const one = { name: `lockstep/${a.type}_${first.join('_')}`, type: a.type, shape: [], bytes: first }
    return this.add('Expand', [this.constant(one), this.computed(shape)])
  }

  /** undefined where the numbers do not grow evenly with the batch. */
  private sizes(a: OnnxTensor, b: OnnxTensor): Size[] | undefined {
    const [first, second] = [a, b].map(({ bytes }) =>
      Array.from(new BigInt64Array(bytes.slice().buffer), Number),
    )
    const sizes = first!.map((n, i) => this.size(n, second![i]!))
    return sizes.every((size) => size !== undefined) ? sizes : undefined
  }

  private size(a: number, b: number): Size | undefined {
    if (a === b) return { times: 0, plus: a }
    const times = (b - a) / (this.other.size - this.one.size)
    const plus = a - times * this.one.size
    // The square of the batch grows evenly between two sizes too, but from far away.
    return Number.isInteger(times) && Math.abs(plus) < this.one.size ? { times, plus } : undefined
  }

  /** The vector of `sizes`, computed when the model runs. */
  private computed(sizes: readonly Size[]): string {
    return this.once(`sizes ${JSON.stringify(sizes)}`, (name) => {
      const parts = sizes.map(({ times, plus }) => {
        if (times === 0) return this.ints([plus])
        const grown = times === 1 ? this.batch() : this.add('Mul', [this.batch(), this.ints([times])])
        return plus === 0 ? grown : this.add('Add', [grown, this.ints([plus])])
      })
      this.nodes.push({ op: 'Concat', inputs: parts, outputs: [name], attributes: { axis: 0 } })
    })
  }

  /** N, as a vector of one number. */
  private batch(): string {
    const [first] = this.one.graph.inputs
    return this.once('N', (name) => {
      this.nodes.push({
        op: 'Shape',
        inputs: [first!.name],
        outputs: [name],
        attributes: { start: 0, end: 1 },
      })
    })
  }

  private add(op: string, inputs: readonly string[]): string {
    return this.once(`${op} ${inputs}`, (name) => {
      this.nodes.push({ op, inputs, outputs: [name], attributes: {} })
    })
  }

  private ints(values: readonly number[]): string {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    return this.constant({
      name: `lockstep/int64_${values.join('_')}`,
      type: 'int64',
      shape: [values.length],
      bytes,
    })
  }

  private constant(tensor: OnnxTensor): string {
    this.constants.set(tensor.name, tensor)
    return tensor.name
  }

  /** The value that `key` says, made once. */
  private once(key: string, make: (name: string) => void): string {
    const known = this.made.get(key)
    if (known !== undefined) return known
    const name = `lockstep/size_${this.made.size}`
    this.made.set(key, name)
    make(name)
    return name
  }

  private symbolic(a: OnnxValue, b: OnnxValue): OnnxValue {
    const symbols = a.shape.map((n, i) => {
      const size = this.size(n, b.shape[i]!)
      if (size?.times === 0) return undefined
      if (size === undefined) return `${a.name}_${i}`
      const product = size.times === 1 ? 'N' : `${size.times}*N`
      return size.plus === 0 ? product : `${product}+${size.plus}`
    })
    return { ...a, symbols }
  }
}

function dependsOnBatch({ name, op }: OnnxNode): LockstepError {
  const where = name?.replace(/#\d+$/, '') ?? op
  return new LockstepError(
    `one ONNX file cannot serve every batch size: what the model computes in ${where} depends on it in more than its ` +
      'shape; export it for one size with { batch: n }',
  )
}
