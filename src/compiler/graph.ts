/**
 * The kernel graph: what a TensorFlow.js function did, as a list of kernels over symbolic values.
 * It records and prints; it neither infers shapes (ops do) nor runs anything (sessions do).
 */

/** The TensorFlow.js dtypes that a traced value may have. */
export type DType = 'float32' | 'int32' | 'bool'

export interface Spec {
  readonly shape: readonly number[]
  readonly dtype: DType
}

/** A symbolic tensor: known in shape and dtype, without data. Compared by identity. */
export interface Value extends Spec {
  readonly id: number
}

/** One TensorFlow.js kernel call. A missing optional input (a dense layer without bias) is undefined. */
export interface KernelNode {
  readonly kernel: string
  /** The layer that was being called, with ` (backward)` when its gradient was being taken; undefined outside of layers. */
  readonly layer?: string
  readonly inputs: readonly (Value | undefined)[]
  // TensorFlow.js types attributes per kernel; each op's file casts them at its own door.
  readonly attrs: unknown
  readonly outputs: readonly Value[]
}

export type Numbers = Float32Array | Int32Array | Uint8Array
/** Also 16-bit floats, of the type that a program computes in. */
export type Bindable = Numbers | Uint16Array

/** The typed array that holds values of a dtype. */
export const numbersOf = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const

/** A value drawn anew at every run: uniform in [0, 1), for the layer that asked for it. */
export interface RandomInput {
  readonly value: Value
  readonly layer: string
}

export interface KernelGraph {
  readonly params: readonly Value[]
  readonly inputs: readonly Value[]
  readonly randoms: readonly RandomInput[]
  readonly constants: ReadonlyMap<Value, Numbers>
  readonly nodes: readonly KernelNode[]
  readonly outputs: readonly Value[]
  /** Positions in `params` of the variables that the last outputs are new values of, in the same order. */
  readonly updated: readonly number[]
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((n, i) => n === b[i])

/** Attributes as JSON, but with infinities and NaN told apart, which JSON writes as null. */
export const printAttrs = (attrs: unknown): string =>
  JSON.stringify(attrs ?? {}, (_, value) =>
    typeof value === 'number' && !Number.isFinite(value) ? `${value}` : value,
  )

/** Prints a graph one kernel a line: `%7 float32[32,10] = Relu(%6)`. */
export function printGraph(graph: KernelGraph): string {
  const spec = (v: Value) => `%${v.id} ${v.dtype}[${v.shape.join(',')}]`
  const line = (node: KernelNode) => {
    const inputs = node.inputs.map((v) => (v === undefined ? '-' : `%${v.id}`)).join(', ')
    return `${node.outputs.map(spec).join(', ')} = ${node.kernel}(${inputs}) ${printAttrs(node.attrs)}`
  }
  const list = (name: string, values: readonly Value[]) => `${name} ${values.map(spec).join(', ')}`
  return [
    list('params', graph.params),
    list('inputs', graph.inputs),
    list(
      'randoms',
      graph.randoms.map(({ value }) => value),
    ),
    list('constants', [...graph.constants.keys()]),
    ...graph.nodes.map(line),
    `outputs ${graph.outputs.map((v) => `%${v.id}`).join(', ')}`,
  ].join('\n')
}
