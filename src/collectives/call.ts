/**
 * The fingerprint of a collective: what all ranks must agree on before a number of it is used.
 * Also the dtypes, since an array's dtype is part of it. It knows no ranks and moves nothing.
 */
import type { Numbers, ReduceOp } from './communicator.js'

export const OPERATIONS = ['all_reduce', 'reduce_scatter', 'all_gather', 'broadcast', 'barrier'] as const
export type Operation = (typeof OPERATIONS)[number]

export const DTYPES = ['float32', 'float64', 'int32', 'uint8'] as const
export type Dtype = (typeof DTYPES)[number]

export interface Call {
  readonly operation: Operation
  readonly dtype: Dtype
  /** Elements of the array that the caller gave: for all_gather its part, otherwise the whole. */
  readonly count: number
  readonly reduction?: ReduceOp
  readonly root?: number
}

const ARRAYS = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array } as const

const DTYPE_OF_TAG: Readonly<Record<string, Dtype>> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int32Array: 'int32',
  Uint8Array: 'uint8',
}

/** The dtype of an array, or undefined if the collectives have none for it. */
export function dtypeOf(data: unknown): Dtype | undefined {
  if (!ArrayBuffer.isView(data) || data instanceof DataView) return undefined
  return DTYPE_OF_TAG[(data as Uint8Array)[Symbol.toStringTag]]
}

export function bytesPerElement(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT
}

export function allocate(dtype: Dtype, count: number): Numbers {
  return new ARRAYS[dtype](count)
}

export function viewOf(dtype: Dtype, buffer: ArrayBufferLike, count: number): Numbers {
  return new ARRAYS[dtype](buffer as ArrayBuffer, 0, count) // the union of constructors knows no shared ones
}

export function bytesOf(data: Numbers): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

export function sameCall(a: Call, b: Call): boolean {
  return (
    a.operation === b.operation &&
    a.dtype === b.dtype &&
    a.count === b.count &&
    a.reduction === b.reduction &&
    a.root === b.root
  )
}

/** As in `all_reduce(float32 × 100, sum)`. */
export function describeCall({ operation, dtype, count, reduction, root }: Call): string {
  if (operation === 'barrier') return 'barrier()'
  const extra = reduction ?? (root === undefined ? undefined : `root ${root}`)
  return `${operation}(${dtype} × ${count}${extra === undefined ? '' : `, ${extra}`})`
}
