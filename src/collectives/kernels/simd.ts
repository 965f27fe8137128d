/**
 * Binds compiled WebAssembly kernels to the memory that their operands lie in, and decides when they may be used.
 * Refuses to know any kernel: each room brings its own bytes and its own scalar twins.
 *
 * The rule: operands that all lie in one Arena's memory go to SIMD; anything else (a plain typed array, two arenas)
 * goes to the scalar twin, which gives the same bits. LOCKSTEP_KERNELS=scalar sends everything to the twins.
 */
import { LockstepError } from '../../errors.js'
import { memoryOf } from './arena.js'

export type Operand = Float32Array | Uint16Array | Int8Array

/** The kernels of type `K`, bound to the memory of these operands; undefined when the scalar twin must do it. */
export type SimdKernels<K> = (...operands: readonly Operand[]) => K | undefined

/**
 * @param base64 a module that imports `env.memory` and exports the functions of `K`; compiled at first use.
 * @throws (from the returned function) RangeError when the operands differ in length: a kernel would write past the
 *   shorter one; LockstepError when LOCKSTEP_KERNELS is neither `simd` nor `scalar`.
 */
export function simdKernels<K>(base64: string): SimdKernels<K> {
  const bound = new WeakMap<WebAssembly.Memory, K>()
  let module: WebAssembly.Module | undefined
  let scalar: boolean | undefined

  return (...operands) => {
    const { buffer, length } = operands[0]!
    let oneBuffer = true
    for (let i = 1; i < operands.length; i++) {
      const operand = operands[i]!
      if (operand.length !== length) {
        throw new RangeError(`operands of a kernel have ${operands.map((o) => o.length).join(', ')} elements`)
      }
      oneBuffer &&= operand.buffer === buffer
    }
    scalar ??= forcedScalar()
    if (scalar || !oneBuffer) return undefined
    const memory = memoryOf(buffer)
    if (!memory) return undefined

    let kernels = bound.get(memory)
    if (!kernels) {
      module ??= new WebAssembly.Module(Buffer.from(base64, 'base64'))
      kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as K
      bound.set(memory, kernels)
    }
    return kernels
  }
}

function forcedScalar(): boolean {
  const choice = process.env.LOCKSTEP_KERNELS || 'simd'
  if (choice !== 'simd' && choice !== 'scalar') {
    throw new LockstepError(
      `LOCKSTEP_KERNELS is ${JSON.stringify(choice)}: set it to simd or scalar, or leave it unset`,
    )
  }
  return choice === 'scalar'
}
