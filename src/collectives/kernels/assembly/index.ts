// The collectives' SIMD kernels over the imported memory. Arguments are byte offsets and element counts that the
// TypeScript beside this folder has checked. Each has a scalar twin there, and gives exactly its bits. AssemblyScript,
// not TypeScript.
export { add, minimum, maximum, multiply, divide } from './elementwise'
export { sum2, sum3, sum4, sumAll2, sumAll3, sumAll4 } from './sums'
export { toBfloat16, fromBfloat16, addBfloat16, toFloat16, fromFloat16, addFloat16 } from './half'
export { quantise, dequantise, addQuantised } from './int8'
