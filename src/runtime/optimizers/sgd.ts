/** Stochastic gradient descent, plain: no state, no momentum (that is ./momentum.ts). */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { type Optimizer, requireInRange, type UpdateArgs } from './optimizer.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  sgd(params: number, grads: number, rate: number, length: number): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * p -= lr * g: torch.optim.SGD without momentum.
 * @throws LockstepError when `lr` is not a finite number >= 0.
 */
export function sgd(lr: number): Optimizer {
  requireInRange('sgd', 'lr', lr)
  return {
    name: 'sgd',
    hyper: { lr },
    slots: [],
    update(args) {
      const { params, grads, gradScale } = args
      const rate = lr * gradScale
      const kernels = simd(params, grads)
      if (kernels) kernels.sgd(params.byteOffset, grads.byteOffset, rate, params.length)
      else sgdScalar(args, Math.fround(rate))
    },
  }
}

function sgdScalar({ params, grads }: UpdateArgs, rate: number): void {
  const f32 = Math.fround
  for (let i = 0; i < params.length; i++) params[i] = params[i]! - f32(rate * grads[i]!)
}
