/** Adam (Kingma & Ba 2015) with bias correction; no weight decay, no AMSGrad. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { type Optimizer, requireInRange, type UpdateArgs } from './optimizer.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  adam(
    params: number,
    grads: number,
    m: number,
    v: number,
    beta1: number,
    oneMinusBeta1: number,
    beta2: number,
    oneMinusBeta2: number,
    rate: number,
    epsilon: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²;  p -= lr * m̂ / (sqrt(v̂) + epsilon): torch.optim.Adam.
 *
 * With m̂ = m / c1, v̂ = v / c2, c = 1 - beta^step, the last line is (paper, end of section 2) the same as
 * p -= (lr sqrt(c2) / c1) * m / (sqrt(v) + epsilon sqrt(c2)), which spares two divisions an element.
 * @throws LockstepError when `lr` or `epsilon` is not a finite number >= 0, or a beta not in [0, 1).
 */
export function adam(lr: number, { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = {}): Optimizer {
  requireInRange('adam', 'lr', lr)
  requireInRange('adam', 'beta1', beta1, 1)
  requireInRange('adam', 'beta2', beta2, 1)
  requireInRange('adam', 'epsilon', epsilon)
  return {
    name: 'adam',
    hyper: { lr, beta1, beta2, epsilon },
    slots: ['m', 'v'],
    update(args) {
      const { params, grads, step, gradScale } = args
      const [m, v] = [args.slots[0]!, args.slots[1]!]
      const correction = Math.sqrt(1 - beta2 ** step)
      const rate = (lr * correction) / (1 - beta1 ** step)
      const eps = epsilon * correction
      const kernels = simd(params, grads, m, v)
      if (!kernels) return adamScalar(args, beta1, beta2, Math.fround(rate), Math.fround(eps))
      kernels.adam(
        params.byteOffset,
        grads.byteOffset,
        m.byteOffset,
        v.byteOffset,
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        rate,
        eps,
        gradScale,
        params.length,
      )
    },
  }
}

function adamScalar(args: UpdateArgs, beta1: number, beta2: number, rate: number, epsilon: number): void {
  const { params, grads } = args
  const [m, v] = [args.slots[0]!, args.slots[1]!]
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const gradScale = f32(args.gradScale)
  const [b1, c1, b2, c2] = [f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2)]
  for (let i = 0; i < params.length; i++) {
    const g = f32(grads[i]! * gradScale)
    const mi = f32(f32(b1 * m[i]!) + f32(c1 * g))
    const vi = f32(f32(b2 * v[i]!) + f32(f32(c2 * g) * g))
    m[i] = mi
    v[i] = vi
    params[i] = params[i]! - f32(f32(rate * mi) / f32(f32(Math.sqrt(vi)) + epsilon))
  }
}
