/** Stochastic gradient descent with (Nesterov) momentum; no dampening. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay, requireInRange } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  momentum(
    params: number,
    grads: number,
    velocity: number,
    lr: number,
    mu: number,
    nesterov: boolean,
    weightDecay: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

export interface MomentumOptions extends DecayOptions {
  readonly momentum?: number
  readonly nesterov?: boolean
}

/**
 * g += weightDecay * p;  v = mu * v + g;  p -= lr * (nesterov ? g + mu * v : v): torch.optim.SGD with momentum, where
 * lr stays outside the velocity (Sutskever et al. 2013 have it inside).
 * @throws LockstepError when `lr` or `weightDecay` is not a finite number >= 0, or `momentum` not in [0, 1).
 */
export function momentum(lr: LearningRate, options: MomentumOptions = {}): Optimizer {
  const { momentum: mu = 0.9, nesterov = false, weightDecay = 0, mask } = options
  const rateAt = rateOf('momentum', lr)
  requireInRange('momentum', 'momentum', mu, 1)
  requireDecay('momentum', { weightDecay, mask })
  return {
    name: 'momentum',
    hyper: { lr: settingsOf(lr), momentum: mu, nesterov: Number(nesterov), weightDecay },
    slots: ['velocity'],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) => updateMomentum(part, rate, mu, nesterov, decay))
    },
  }
}

function updateMomentum(args: UpdateArgs, lr: number, mu: number, nesterov: boolean, decay: number) {
  const { params, grads, slots, gradScale } = args
  const velocity = slots[0]!
  const kernels = simd(params, grads, velocity)
  if (!kernels) {
    return momentumScalar(args, Math.fround(lr), Math.fround(mu), nesterov, Math.fround(decay))
  }
  const [p, g, v] = [params.byteOffset, grads.byteOffset, velocity.byteOffset]
  kernels.momentum(p, g, v, lr, mu, nesterov, decay, gradScale, params.length)
}

function momentumScalar(args: UpdateArgs, lr: number, mu: number, nesterov: boolean, decay: number): void {
  const { params, grads } = args
  const velocity = args.slots[0]!
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const gradScale = f32(args.gradScale)
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    const g = f32(f32(grads[i]! * gradScale) + f32(decay * p))
    const v = f32(f32(mu * velocity[i]!) + g)
    velocity[i] = v
    const direction = nesterov ? f32(g + f32(mu * v)) : v
    params[i] = p - f32(lr * direction)
  }
}
