/**
 * What an op's lowering writes into: ONNX nodes and constants, and the names under which each value is known.
 *
 * TensorFlow.js images are NHWC, ONNX convolutions NCHW. A rank-4 value may be known in either layout or both; the
 * transpose between them is made when the missing one is first asked for, and remembered. Elementwise ops follow the
 * layout of what they are given, so a chain conv → bias → ReLU → pool stays in NCHW from end to end.
 */
import { type DType, type KernelNode, type Numbers, numbersOf, sizeOf, type Value } from './graph.js'
import type { OnnxAttribute, OnnxNode, OnnxTensor } from './onnx.js'

export type Layout = 'plain' | 'nchw'
export type Attributes = Record<string, OnnxAttribute>

export class Builder {
  readonly nodes: OnnxNode[] = []
  readonly constants: OnnxTensor[] = []
  private readonly names = new Map<Value, Partial<Record<Layout, string>>>()
  private readonly byContent = new Map<string, string>()
  private readonly memo = new Map<string, string>()
  private count = 0

  /** Adds a node with one output and returns the output's name. */
  add(op: string, inputs: readonly string[], attributes: Attributes = {}, domain?: string): string {
    return this.addMany(op, inputs, 1, attributes, domain)[0]!
  }

  addMany(
    op: string,
    inputs: readonly string[],
    count: number,
    attributes: Attributes = {},
    domain?: string,
  ): string[] {
    const outputs = Array.from({ length: count }, () => `t${this.count++}`)
    this.nodes.push({ op, inputs, outputs, attributes, ...(domain && { domain }) })
    return outputs
  }

  /** The same node once, however often it is asked for: `key` says what it computes. */
  once(key: string, make: () => string): string {
    const known = this.memo.get(key)
    if (known !== undefined) return known
    const name = make()
    this.memo.set(key, name)
    return name
  }

  constant(type: OnnxTensor['type'], shape: readonly number[], data: Numbers | BigInt64Array): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const small = bytes.length <= 256
    const key = `${type} ${shape} ${small ? bytes : this.count}`
    const known = this.byContent.get(key)
    if (known !== undefined) return known
    const name = `c${this.count++}`
    this.constants.push({ name, type, shape, bytes })
    this.byContent.set(key, name)
    return name
  }

  /** An int64 vector: axes, shapes, starts and ends are inputs in ONNX. */
  ints(values: readonly number[]): string {
    return this.constant('int64', [values.length], BigInt64Array.from(values, BigInt))
  }

  scalar(value: number, type: DType = 'float32'): string {
    return this.constant(type, [], numbersOf[type].of(value))
  }

  reshape(name: string, shape: readonly number[]): string {
    return this.once(`reshape ${name} ${shape}`, () => this.add('Reshape', [name, this.ints(shape)]))
  }

  transpose(name: string, perm: readonly number[]): string {
    return this.once(`transpose ${name} ${perm}`, () => this.add('Transpose', [name], { perm }))
  }

  /** Says under which name `value` is known in `layout`. */
  define(value: Value, name: string, layout: Layout = 'plain'): void {
    this.names.set(value, { ...this.names.get(value), [layout]: name })
  }

  /** The value in TensorFlow.js' own dimension order. */
  plain(value: Value): string {
    const known = this.known(value)
    if (known.plain === undefined) this.define(value, this.transpose(known.nchw!, [0, 2, 3, 1]))
    return this.known(value).plain!
  }

  /** A rank-4 value with its last dimension moved to the second place. */
  nchw(value: Value): string {
    const known = this.known(value)
    if (known.nchw === undefined) {
      const [n, h, w, c] = value.shape as [number, number, number, number]
      // With one channel, or one pixel, both orders are the same bytes.
      const same = c === 1 || h * w === 1
      const name = same
        ? this.reshape(known.plain!, [n, c, h, w])
        : this.transpose(known.plain!, [0, 3, 1, 2])
      this.define(value, name, 'nchw')
    }
    return this.known(value).nchw!
  }

  /** True for a value whose NHWC form would have to be made. */
  isNchw(value: Value): boolean {
    return this.known(value).plain === undefined
  }

  /** Lowers an op that treats all elements alike: `make` is given its inputs' names in one common layout. */
  elementwise(node: KernelNode, make: (names: string[]) => string): void {
    const inputs = node.inputs as Value[]
    const output = node.outputs[0]!
    const size = sizeOf(output.shape)
    const images = inputs.filter((v) => v.shape.length === 4 && sizeOf(v.shape) === size)
    const layout = output.shape.length === 4 && images.some((v) => this.isNchw(v)) ? 'nchw' : 'plain'
    const names = inputs.map((v) => (layout === 'plain' ? this.plain(v) : this.broadcastNchw(v)))
    this.define(output, make(names), layout)
  }

  /** A value that broadcasts against NHWC images, made to broadcast against NCHW ones. */
  broadcastNchw(value: Value): string {
    const { shape } = value
    if (shape.length === 4) return this.nchw(value)
    const name = this.plain(value)
    if (sizeOf(shape) === 1) return name
    const channels = shape.at(-1)!
    if (sizeOf(shape) === channels) return this.reshape(name, [channels, 1, 1])
    const padded = [...Array<number>(4 - shape.length).fill(1), ...shape]
    return this.transpose(this.reshape(name, padded), [0, 3, 1, 2])
  }

  private known(value: Value): Partial<Record<Layout, string>> {
    const known = this.names.get(value)
    if (known === undefined) throw new Error(`value %${value.id} was used before it was lowered`)
    return known
  }
}
