/**
 * What an op's lowering writes into: ONNX nodes and constants, and the names under which each value is known.
 *
 * TensorFlow.js images are NHWC, ONNX convolutions NCHW, onnxruntime's direct convolutions "blocked":
 * [n, c / block, h, w, block], with as many channels in a block as the processor has floats in a vector. A rank-4
 * value may be known in several layouts; a missing one is made when first asked for, and remembered. Elementwise ops
 * follow the layout of what they are given, so a chain conv → bias → ReLU → conv stays in one from end to end.
 */
import {
  type DType,
  type KernelNode,
  type Numbers,
  numbersOf,
  type Spec,
  sameShape,
  sizeOf,
  type Value,
} from './graph.js'
import { BLOCKED_DOMAIN, type OnnxAttribute, type OnnxNode, type OnnxTensor, onnxType } from './onnx.js'

export type Layout = 'plain' | 'nchw' | 'blocked'
/** Whether a value of this shape may be known with its channels in the second place: an image or a volume. */
export const isImage = (shape: readonly number[]): boolean => shape.length === 4 || shape.length === 5

/** The permutations [0, n-1, 1, … n-2] and back. */
const ones = (count: number) => Array<number>(count).fill(1)
const toNchw = (rank: number) => [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)]
const fromNchw = (rank: number) => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1]

/** [batch, channels, ...pixels] for an image in TensorFlow.js' order. */
export const channelsSecond = (shape: readonly number[]): number[] =>
  toNchw(shape.length).map((i) => shape[i]!)

export type Attributes = Record<string, OnnxAttribute>

type Shape4 = readonly [n: number, h: number, w: number, c: number]

/** A value that was there before, and is there again after something else. */
interface Late {
  readonly from: string
  readonly nothing: string
  readonly type: DType
}

export class Builder {
  readonly nodes: OnnxNode[] = []
  readonly constants: OnnxTensor[] = []
  private readonly names = new Map<Value, Partial<Record<Layout, string>>>()
  private readonly byContent = new Map<string, string>()
  private readonly memo = new Map<string, string>()
  private readonly reshapedFrom = new Map<string, string>()
  private readonly shapes = new Map<string, readonly number[]>()
  private readonly late = new Map<string, Late>()
  private count = 0
  /** What is being lowered, `layer/kernel`: nodes are named after it. */
  scope = ''

  /**
   * @param block channels in a block; undefined: nothing is lowered to the blocked layout.
   * @param portable operators of the ONNX standard alone, for other runtimes too
   */
  constructor(
    readonly block?: number,
    readonly portable = false,
  ) {}

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
    const name = `${this.scope}#${this.nodes.length}`
    this.nodes.push({ name, op, inputs, outputs, attributes, ...(domain && { domain }) })
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

  /** Always from what was there before any reshaping: onnxruntime would fuse chains into nodes out of our order. */
  reshape(name: string, shape: readonly number[]): string {
    const root = this.reshapedFrom.get(name) ?? name
    const known = this.shapes.get(root)
    if (known !== undefined && sameShape(known, shape)) return root
    return this.once(`reshape ${root} ${shape}`, () => {
      const late = this.late.get(root)
      const reshaped = late ? this.reshapeLate(late, shape) : this.add('Reshape', [root, this.ints(shape)])
      this.reshapedFrom.set(reshaped, root)
      return reshaped
    })
  }

  /** Says that `name` has `shape`, so that a reshape to it is none. */
  shaped(name: string, shape: readonly number[]): string {
    this.shapes.set(name, shape)
    return name
  }

  /** Stacked along the first dimension. */
  concat(names: readonly string[]): string {
    return names.length === 1 ? names[0]! : this.add('Concat', names, { axis: 0 })
  }

  transpose(name: string, perm: readonly number[]): string {
    if (perm.every((axis, i) => axis === i)) return name
    return this.once(`transpose ${name} ${perm}`, () => this.add('Transpose', [name], { perm }))
  }

  /**
   * Reduces `axes` of a tensor like `of` away. The batch comes last, after what lies within a sample: one running float32
   * sum over all pixels of all samples loses ten times the precision, and ranks that share a batch differently would
   * drift apart sooner.
   */
  reduce(op: string, name: string, of: Spec, axes: readonly number[]): string {
    const { shape, dtype } = of
    const without = (removed: readonly number[]) => shape.filter((_, i) => !removed.includes(i))
    // onnxruntime takes twenty times as long to reduce the second dimension when the first is 1.
    if (shape[0] === 1 && !this.portable) {
      const rest = { shape: shape.slice(1), dtype }
      const inner = axes.filter((axis) => axis > 0).map((axis) => axis - 1)
      return this.reshape(this.reduce(op, this.reshape(name, rest.shape), rest, inner), without(axes))
    }
    const within = axes.filter((axis) => axis !== 0)
    if (within.length > 0) {
      const reduced = this.add(op, [name, this.ints(within)], { keepdims: 0 })
      return within.length === axes.length
        ? reduced
        : this.reduce(op, reduced, { shape: without(within), dtype }, [0])
    }
    if (axes.length === 0) return name
    if (op === 'ReduceSum' && dtype === 'float32' && !this.portable) {
      return this.sumRows(name, shape[0]!, without(axes))
    }
    return this.add(op, [name, this.ints(axes)], { keepdims: 0 })
  }

  /** The float32 sum over the first of the dimensions [count, ...shape]: as a product with ones, up to ten times as fast. */
  sumRows(name: string, count: number, shape: readonly number[]): string {
    const ones = this.once(`ones ${count}`, () =>
      this.constant('float32', [1, count], new Float32Array(count).fill(1)),
    )
    const columns = sizeOf(shape)
    const sum = this.add('MatMul', [ones, this.reshape(name, [count, columns])])
    return this.reshape(this.shaped(sum, [1, columns]), shape)
  }

  /** Says under which name `value` is known in `layout`. */
  define(value: Value, name: string, layout: Layout = 'plain'): void {
    if (layout === 'plain') this.shaped(name, value.shape)
    this.names.set(value, { ...this.names.get(value), [layout]: name })
  }

  /** The value in TensorFlow.js' own dimension order. */
  plain(value: Value): string {
    return this.as(value, 'plain')
  }

  /** An image or a volume with its last dimension moved to the second place. */
  nchw(value: Value): string {
    return this.as(value, 'nchw')
  }

  as(value: Value, layout: Layout): string {
    const known = this.known(value)[layout]
    if (known !== undefined) return known
    const name = this.converted(value, layout)
    this.define(value, name, layout)
    return name
  }

  /** Defines `output` as `value` once more, which is there after `other` only. */
  after(value: Value, other: Value, output: Value): void {
    const nothing = this.once(`nothing, after ${other.id}`, () => {
      const first = this.add('Gather', [
        this.reshape(this.as(other, this.layoutOf(other)), [sizeOf(other.shape)]),
        this.ints([0]),
      ])
      const never = this.add('Greater', [first, this.scalar(Number.POSITIVE_INFINITY)])
      return this.add('Cast', [never], { to: onnxType.int64 })
    })
    const layout = this.layoutOf(value)
    const name = this.as(value, layout)
    const late = { from: this.reshapedFrom.get(name) ?? name, nothing, type: value.dtype }
    const reshaped = this.reshapeLate(late, this.shapeIn(value, layout))
    this.late.set(reshaped, late)
    this.define(output, reshaped, layout)
  }

  /** A reshape, which copies nothing, to a shape to which something is added that is always 0, and is not there before. */
  private reshapeLate({ from, nothing, type }: Late, shape: readonly number[]): string {
    const reshaped = this.add('Reshape', [from, this.add('Add', [this.ints(shape), nothing])])
    this.nodes.push({ ...this.nodes.pop()!, made: { name: reshaped, type, shape } })
    return reshaped
  }

  /** The layout that costs nothing: NHWC where the value is known in it, else the one it was made in. */
  layoutOf(value: Value): Layout {
    const { plain, blocked } = this.known(value)
    return plain !== undefined ? 'plain' : blocked !== undefined ? 'blocked' : 'nchw'
  }

  /** Whether images of so many channels can be blocked. */
  blocks(channels: number): boolean {
    return this.block !== undefined && channels % this.block === 0
  }

  /** The shape of `channels` numbers that broadcast over an image of `rank` dimensions, NHWC or NCHW. */
  channelShape(channels: number, layout: Layout, rank: number): number[] {
    return layout === 'plain' ? [channels] : [channels, ...ones(rank - 2)]
  }

  /** A blocked image under the four dimensions [n, c, h, w] that the operators of BLOCKED_DOMAIN expect. */
  blockedAsFour(value: Value): string {
    const [n, h, w, c] = value.shape as unknown as Shape4
    return this.reshape(this.as(value, 'blocked'), [n, c, h, w])
  }

  /** Defines an image that an operator of BLOCKED_DOMAIN has made. */
  defineBlocked(value: Value, four: string): void {
    this.define(value, this.reshape(four, this.blockedShape(value)), 'blocked')
  }

  /** Lowers an op that treats all elements alike: `make` is given its inputs' names in one common layout. */
  elementwise(node: KernelNode, make: (names: string[]) => string): void {
    const inputs = node.inputs as Value[]
    const output = node.outputs[0]!
    const size = sizeOf(output.shape)
    const images = inputs.filter((v) => isImage(v.shape) && sizeOf(v.shape) === size)
    const layouts = isImage(output.shape) ? images.map((v) => this.layoutOf(v)) : []
    // onnxruntime broadcasts along rows, and a row of a blocked image is one block long: ten times slower.
    const alike = inputs.every((v) => sizeOf(v.shape) === size || sizeOf(v.shape) === 1)
    const made = layouts.find((l) => l !== 'plain')
    const layout = made === undefined ? 'plain' : layouts.includes('blocked') && alike ? 'blocked' : 'nchw'
    const names = inputs.map((v) => (layout === 'plain' ? this.plain(v) : this.broadcast(v, output, layout)))
    this.define(output, make(names), layout)
  }

  /**
   * A value that broadcasts against the NHWC image `output`, made to broadcast against it in `layout`; against a
   * blocked one only a single number or another image does.
   */
  broadcast(value: Value, output: Value, layout: Layout): string {
    const { shape } = value
    if (sameShape(shape, output.shape)) return this.as(value, layout)
    const name = this.plain(value)
    if (sizeOf(shape) === 1) return name
    const channels = shape.at(-1)!
    const { length: rank } = output.shape
    if (sizeOf(shape) === channels) return this.reshape(name, this.channelShape(channels, layout, rank))
    return this.transpose(this.reshape(name, [...ones(rank - shape.length), ...shape]), toNchw(rank))
  }

  /** `value` in `layout`, made from the layouts it is known in. */
  private converted(value: Value, layout: Layout): string {
    const { plain, nchw } = this.known(value)
    const { shape } = value
    if (layout === 'blocked') {
      const attributes = { channels_last: Number(plain !== undefined) }
      return this.reshape(
        this.add('ReorderInput', [plain ?? nchw!], attributes, BLOCKED_DOMAIN),
        this.blockedShape(value),
      )
    }
    // With one channel, or one pixel, NHWC and NCHW are the same bytes.
    const same = shape.at(-1) === 1 || sizeOf(shape.slice(1, -1)) === 1
    if (layout === 'plain') {
      if (nchw === undefined) return this.unblocked(value, true)
      return same ? this.reshape(nchw, shape) : this.transpose(nchw, fromNchw(shape.length))
    }
    if (plain === undefined) return this.unblocked(value, false)
    return same ? this.reshape(plain, channelsSecond(shape)) : this.transpose(plain, toNchw(shape.length))
  }

  private unblocked(value: Value, channelsLast: boolean): string {
    const attributes = { channels: value.shape[3]!, channels_last: Number(channelsLast) }
    return this.add('ReorderOutput', [this.blockedAsFour(value)], attributes, BLOCKED_DOMAIN)
  }

  private shapeIn(value: Value, layout: Layout): readonly number[] {
    if (layout === 'plain') return value.shape
    return layout === 'nchw' ? channelsSecond(value.shape) : this.blockedShape(value)
  }

  private blockedShape(value: Value): number[] {
    const [n, h, w, c] = value.shape as unknown as Shape4
    return [n, c / this.block!, h, w, this.block!]
  }

  private known(value: Value): Partial<Record<Layout, string>> {
    const known = this.names.get(value)
    if (known === undefined) throw new Error(`value %${value.id} was used before it was lowered`)
    return known
  }
}
