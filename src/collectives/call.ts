/**
 * The fingerprint of a collective: what all ranks must agree on before a number of it is used.
 * Also the dtypes, since an array's dtype is part of it. It knows no ranks and moves nothing.
 */
import type { Numbers, ReduceOp } from './communicator.js'
import { Bfloat16Bits, Float16Bits, HALF_ARRAYS, type HalfType } from './kernels/half-arrays.js'

// The place in this list is the number on the wire: new ones go to the end.
export const OPERATIONS = [
  'all_reduce',
  'reduce_scatter',
  'all_gather',
  'broadcast',
  'barrier',
  'reduce',
  'gather',
  'scatter',
  'all_to_all',
  'all_gather_uneven',
  'send_recv',
  'hierarchical_all_reduce',
] as const
export type Operation = (typeof OPERATIONS)[number]

export const DTYPES = ['float32', 'float64', 'int32', 'uint8', 'float16', 'bfloat16'] as const
export type Dtype = (typeof DTYPES)[number]

export interface Call {
  readonly operation: Operation
  readonly dtype: Dtype
  /** Elements: of one rank's part for all_gather, gather and scatter, otherwise of the whole array. */
  readonly count: number
  readonly reduction?: ReduceOp
  readonly root?: number
  /** all_gather_uneven: how long each rank's part is. On the wire only as `layout`. */
  readonly counts?: readonly number[]
  /** The digest of `counts`. */
  readonly layout?: number
}

export const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  ...HALF_ARRAYS,
} as const

const DTYPE_OF_TAG: Readonly<Record<string, Dtype>> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Int32Array: 'int32',
  Uint8Array: 'uint8',
}

/** The dtype of an array, or undefined if the collectives have none for it. */
export function dtypeOf(data: unknown): Dtype | undefined {
  if (!ArrayBuffer.isView(data) || data instanceof DataView) return undefined
  const known = DTYPE_OF_TAG[(data as Uint8Array)[Symbol.toStringTag]]
  if (known !== undefined) return known
  return data instanceof Float16Bits ? 'float16' : data instanceof Bfloat16Bits ? 'bfloat16' : undefined
}

export function isHalf(dtype: Dtype): dtype is HalfType {
  return dtype in HALF_ARRAYS
}

export function bytesPerElement(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT
}

export function allocate(dtype: Dtype, count: number): Numbers {
  return new ARRAYS[dtype](count)
}

export function viewOf(dtype: Dtype, buffer: ArrayBufferLike, count: number, byteOffset = 0): Numbers {
  return new ARRAYS[dtype](buffer as ArrayBuffer, byteOffset, count) // the union of constructors knows no shared ones
}

export function bytesOf(data: Numbers): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

/** 31 bits that tell one list of part lengths from another (FNV-1a). */
export function layoutOf(counts: readonly number[]): number {
  let hash = 0x811c9dc5
  for (const char of counts.join()) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193)
  return hash >>> 1
}

export function sameCall(a: Call, b: Call): boolean {
  return (
    a.operation === b.operation &&
    a.dtype === b.dtype &&
    a.count === b.count &&
    a.reduction === b.reduction &&
    a.root === b.root &&
    a.layout === b.layout
  )
}

/** As in `all_reduce(float32 × 100, sum)`. */
export function describeCall(call: Call): string {
  const { operation, dtype, count } = call
  if (operation === 'barrier') return 'barrier()'
  return `${operation}(${[`${dtype} × ${count}`, ...details(call)].join(', ')})`
}

function details({ reduction, root, layout, counts }: Call): string[] {
  return [
    ...(reduction === undefined ? [] : [reduction]),
    ...(root === undefined ? [] : [`root ${root}`]),
    ...(layout === undefined ? [] : [counts ? `parts of ${counts.join(' + ')}` : `parts #${layout}`]),
  ]
}
