/** Stochastic gradient descent, plain: no state, no momentum (that is ./momentum.ts). */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  sgd(params: number, grads: number, rate: number, decay: number, length: number): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * p -= lr * (g + weightDecay * p): torch.optim.SGD without momentum.
 * @throws LockstepError when `lr` or `weightDecay` is not a finite number >= 0.
 */
export function sgd(lr: LearningRate, { weightDecay = 0, mask }: DecayOptions = {}): Optimizer {
  const rateAt = rateOf('sgd', lr)
  requireDecay('sgd', { weightDecay, mask })
  return {
    name: 'sgd',
    hyper: { lr: settingsOf(lr), weightDecay },
    slots: [],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) => descend(part, rate * part.gradScale, rate * decay))
    },
  }
}

/** p -= rate * grads + decay * p. */
export function descend(
  { params, grads }: Pick<UpdateArgs, 'params' | 'grads'>,
  rate: number,
  decay: number,
): void {
  const kernels = simd(params, grads)
  if (kernels) kernels.sgd(params.byteOffset, grads.byteOffset, rate, decay, params.length)
  else descendScalar(params, grads, Math.fround(rate), Math.fround(decay))
}

function descendScalar(params: Float32Array, grads: Float32Array, rate: number, decay: number): void {
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    params[i] = p - f32(f32(rate * grads[i]!) + f32(decay * p))
  }
}
