// The compressors' SIMD kernels over the imported memory. Arguments are byte offsets and element counts that the
// TypeScript beside this folder has checked. Each has a scalar twin there, and gives exactly its bits. AssemblyScript,
// not TypeScript.
export { subtract, accelerate } from './elementwise'
export { toInt4, fromInt4, addInt4 } from './int4'
export { toSign, fromSign, addSign } from './sign'
export { histogram, compact } from './select'
export { timesSkinny, transposedTimesSkinny, addLowRank } from './low-rank'
