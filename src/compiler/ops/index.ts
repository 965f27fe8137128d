/**
 * The table of TensorFlow.js kernels, total by type: every kernel that tfjs-core names is either covered by a row or
 * listed as uncovered, and a kernel in both or neither is a compile error.
 */
import type * as tf from '@tensorflow/tfjs-core'
import { ownAgainOps } from './again.js'
import { batchNormOps, ownBatchNormOps } from './batch-norm.js'
import { convolutionOps } from './convolution.js'
import { dilationOps } from './dilation.js'
import { einsumOps } from './einsum.js'
import { elementwiseOps } from './elementwise.js'
import { ownExchangeOps } from './exchange.js'
import { gatherOps } from './gather.js'
import { ownGeluOps } from './gelu.js'
import { ownLayerNormOps } from './layer-norm.js'
import { matmulOps } from './matmul.js'
import type { Op } from './op.js'
import { poolingOps } from './pooling.js'
import { rearrangeOps } from './rearrange.js'
import { reductionOps } from './reduction.js'
import { resizeOps } from './resize.js'
import { responseNormOps } from './response-norm.js'
import { scanOps } from './scan.js'
import { shapeOps } from './shape.js'

/** tfjs-core exports every kernel's name as a constant of that name: `Relu = 'Relu'`. */
type KernelName = {
  [K in keyof typeof tf]: (typeof tf)[K] extends K ? K : never
}[keyof typeof tf]

const covered = {
  ...batchNormOps,
  ...convolutionOps,
  ...dilationOps,
  ...einsumOps,
  ...elementwiseOps,
  ...gatherOps,
  ...matmulOps,
  ...poolingOps,
  ...rearrangeOps,
  ...reductionOps,
  ...resizeOps,
  ...responseNormOps,
  ...scanOps,
  ...shapeOps,
} satisfies Partial<Record<KernelName, Op>>

const uncovered = [
  'Bincount',
  'BroadcastArgs',
  'BroadcastTo',
  'Complex',
  'ComplexAbs',
  'CropAndResize',
  'DenseBincount',
  'Diag',
  'Draw',
  'FFT',
  'FromPixels',
  'IFFT',
  'Imag',
  'LogicalXor',
  'LowerBound',
  'MatrixBandPart',
  'MaxPoolWithArgmax',
  'Multinomial',
  'NonMaxSuppressionV3',
  'NonMaxSuppressionV4',
  'NonMaxSuppressionV5',
  'Pool',
  'RaggedGather',
  'RaggedRange',
  'RaggedTensorToTensor',
  'Real',
  'RotateWithOffset',
  'SearchSorted',
  'SparseFillEmptyRows',
  'SparseReshape',
  'SparseSegmentMean',
  'SparseSegmentSum',
  'SparseToDense',
  'StaticRegexReplace',
  'StringNGrams',
  'StringSplit',
  'StringToHashBucketFast',
  'Transform',
  'Unique',
  'UpperBound',
] as const satisfies readonly Exclude<KernelName, keyof typeof covered>[]

/** Fails to compile, naming them, when kernels are neither covered nor listed. */
type Forgotten = Exclude<KernelName, keyof typeof covered | (typeof uncovered)[number]>
const nothingForgotten: Record<Forgotten, never> = {}

/** Kernels of our own: what layers written anew call (../layers/), exchanges (../exchanges.ts), and where recomputation begins. */
const own = {
  ...ownAgainOps,
  ...ownBatchNormOps,
  ...ownExchangeOps,
  ...ownGeluOps,
  ...ownLayerNormOps,
} satisfies Record<string, Op>

const table = new Map<string, Op>(Object.entries({ ...covered, ...own }))

/** Names of all kernels that a trace may meet, covered or not. */
export function kernelNames(): string[] {
  return [...Object.keys({ ...covered, ...own, ...nothingForgotten }), ...uncovered]
}

/** The op behind a TensorFlow.js kernel; undefined when the compiler does not cover it. */
export function opFor(kernel: string): Op | undefined {
  return table.get(kernel)
}
