// SIMD optimizer updates over float32 buffers in the imported memory: byte offsets first, then hyper-parameters, then
// the element count. Each operation stands in the order of its scalar twin in ../*.ts, so that both give the same bits.
// AssemblyScript, not TypeScript.

export { sgd } from './sgd'
export { momentum } from './momentum'
export { adam } from './adam'
export { adagrad } from './adagrad'
export { rmsprop } from './rmsprop'
export { lamb } from './lamb'
export { lion } from './lion'
export { sumOfSquares } from './norm'
export { clamp } from './clip'
