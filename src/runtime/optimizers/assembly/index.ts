// SIMD optimizer updates over float32 buffers in the imported memory: byte offsets first, then hyper-parameters, then
// the element count. Each operation stands in the order of its scalar twin in ../*.ts, so that both give the same bits.
// AssemblyScript, not TypeScript.

export { sgd } from './sgd'
export { momentum } from './momentum'
export { adam } from './adam'
