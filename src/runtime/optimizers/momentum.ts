/** Stochastic gradient descent with (Nesterov) momentum; no dampening and no weight decay. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { type Optimizer, requireInRange, type UpdateArgs } from './optimizer.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  momentum(
    params: number,
    grads: number,
    velocity: number,
    lr: number,
    mu: number,
    nesterov: boolean,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * v = mu * v + g;  p -= lr * (nesterov ? g + mu * v : v): torch.optim.SGD with momentum, where lr stays outside the
 * velocity (Sutskever et al. 2013 have it inside).
 * @throws LockstepError when `lr` is not a finite number >= 0, or `momentum` not in [0, 1).
 */
export function momentum(lr: number, { momentum: mu = 0.9, nesterov = false } = {}): Optimizer {
  requireInRange('momentum', 'lr', lr)
  requireInRange('momentum', 'momentum', mu, 1)
  return {
    name: 'momentum',
    hyper: { lr, momentum: mu, nesterov: Number(nesterov) },
    slots: ['velocity'],
    update(args) {
      const { params, grads, slots, gradScale } = args
      const velocity = slots[0]!
      const kernels = simd(params, grads, velocity)
      if (!kernels) return momentumScalar(args, Math.fround(lr), Math.fround(mu), nesterov)
      const [p, g, v] = [params.byteOffset, grads.byteOffset, velocity.byteOffset]
      kernels.momentum(p, g, v, lr, mu, nesterov, gradScale, params.length)
    },
  }
}

function momentumScalar(args: UpdateArgs, lr: number, mu: number, nesterov: boolean): void {
  const { params, grads } = args
  const velocity = args.slots[0]!
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const gradScale = f32(args.gradScale)
  for (let i = 0; i < params.length; i++) {
    const g = f32(grads[i]! * gradScale)
    const v = f32(f32(mu * velocity[i]!) + g)
    velocity[i] = v
    const direction = nesterov ? f32(g + f32(mu * v)) : v
    params[i] = params[i]! - f32(lr * direction)
  }
}
