/**
 * Gradient clipping: wrappers that give an optimizer milder gradients. They keep its name and state, so a checkpoint
 * can be resumed with, without or with other clipping.
 */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { LockstepError } from '../../errors.js'
import { l2Norm } from './norm.js'
import type { Optimizer } from './optimizer.js'
import { requirePositive } from './require.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  clamp(values: number, scale: number, limit: number, length: number): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * Every element of the mean gradient limited to [-limit, limit]: torch.nn.utils.clip_grad_value_.
 * @throws LockstepError when `limit` is not a finite number > 0.
 */
export function clipByValue(optimizer: Optimizer, limit: number): Optimizer {
  requirePositive('clipByValue', 'limit', limit)
  return {
    ...optimizer,
    hyper: { ...optimizer.hyper, clipByValue: limit },
    givenNorm: undefined, // it would be that of the unlimited gradients
    update(args) {
      clamp(args.grads, args.gradScale, limit)
      optimizer.update({ ...args, gradScale: 1 })
    },
  }
}

/**
 * The mean gradient of the whole model scaled down to the L2 norm `maxNorm` where it is longer (Pascanu et al. 2013):
 * torch.nn.utils.clip_grad_norm_. Every rank finds the same norm by itself; the update waits for all gradients.
 * @throws LockstepError when `maxNorm` is not a finite number > 0; and on `update`, before anything has changed, when
 *   the norm is not finite.
 */
export function clipByGlobalNorm(optimizer: Optimizer, maxNorm: number): Optimizer {
  requirePositive('clipByGlobalNorm', 'maxNorm', maxNorm)
  return {
    ...optimizer,
    hyper: { ...optimizer.hyper, clipByGlobalNorm: maxNorm },
    granularity: 'model',
    givenNorm: optimizer.givenNorm ?? optimizer.granularity,
    update(args) {
      const norm = (args.gradNorm ?? l2Norm(args.grads)) * Math.abs(args.gradScale)
      if (!Number.isFinite(norm)) {
        throw new LockstepError(
          `clipByGlobalNorm: the gradient norm of step ${args.step} is ${norm}: lower the learning rate, or look for ` +
            'NaN and infinities in that batch; parameters are as before this step',
        )
      }
      const scale = Math.min(1, maxNorm / (norm + 1e-6)) // PyTorch's 1e-6: a norm of 0 divides nothing
      optimizer.update({ ...args, gradScale: args.gradScale * scale })
    },
  }
}

/** values[i] = values[i] * scale, at least -limit, at most limit; NaN stays NaN. */
function clamp(values: Float32Array, scale: number, limit: number): void {
  const kernels = simd(values)
  if (kernels) kernels.clamp(values.byteOffset, scale, limit, values.length)
  else clampScalar(values, Math.fround(scale), Math.fround(limit))
}

function clampScalar(values: Float32Array, scale: number, limit: number): void {
  for (let i = 0; i < values.length; i++) {
    values[i] = Math.min(Math.max(values[i]! * scale, -limit), limit)
  }
}
