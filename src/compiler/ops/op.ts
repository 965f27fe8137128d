/** What the table of ops holds: for one TensorFlow.js kernel, its shape rule and its lowering to ONNX. */
import type { Builder } from '../builder.js'
import type { DType, KernelNode, Spec, Value } from '../graph.js'

export interface Op {
  /** The kernel's input names in TensorFlow.js, in the order used here; 'list' for kernels of many tensors. */
  readonly inputs: readonly string[] | 'list'
  /** Set when the kernel returns an array of tensors. */
  readonly list?: boolean
  /** The dtypes that its inputs may have, when not all. */
  readonly dtypes?: readonly DType[]
  /** What of this kernel has no lowering, in words that follow the op's name; undefined when all is well. */
  refuse?(inputs: readonly Value[], attrs: unknown): string | undefined
  /** When the kernel gives back one of its inputs unchanged: that input. */
  alias?(inputs: readonly Value[], attrs: unknown): Value | undefined
  /** Shapes and dtypes of the outputs. */
  infer(inputs: readonly Value[], attrs: unknown): Spec[]
  /** Writes the ONNX nodes and defines every output of `node`. */
  lower(builder: Builder, node: KernelNode): void
}

export const FLOAT: readonly DType[] = ['float32']
export const NUMERIC: readonly DType[] = ['float32', 'int32']

/** The shape of two operands broadcast together, NumPy's rule; TensorFlow.js has checked that they fit. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length)
  const at = (shape: readonly number[], i: number) => shape[shape.length - rank + i] ?? 1
  return Array.from({ length: rank }, (_, i) => (at(a, i) === 1 ? at(b, i) : at(a, i)))
}
