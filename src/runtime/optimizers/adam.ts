/** Adam (Kingma & Ba 2015) with bias correction; weight decay is part of the gradient (./adamw.ts: it is not). */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay, requireInRange } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
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
    weightDecay: number,
    keep: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

export interface AdamOptions extends DecayOptions {
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
}

/** Betas and epsilon of Adam and its kin. */
export interface Moments {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
}

/**
 * g += weightDecay * p;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²;  p -= lr * m̂ / (sqrt(v̂) + epsilon):
 * torch.optim.Adam.
 * @throws LockstepError when `lr`, `epsilon` or `weightDecay` is not a finite number >= 0, or a beta not in [0, 1).
 */
export function adam(lr: LearningRate, options: AdamOptions = {}): Optimizer {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, mask } = options
  const moments = { beta1, beta2, epsilon }
  const rateAt = rateOf('adam', lr)
  requireMoments('adam', moments)
  requireDecay('adam', { weightDecay, mask })
  return {
    name: 'adam',
    hyper: { lr: settingsOf(lr), ...moments, weightDecay },
    slots: ['m', 'v'],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) => updateAdam(part, rate, moments, decay, 1))
    },
  }
}

/**
 * One step of Adam. With m̂ = m / c1, v̂ = v / c2, c = 1 - beta^step, p -= lr * m̂ / (sqrt(v̂) + epsilon) is (paper, end of
 * section 2) the same as p -= (lr sqrt(c2) / c1) * m / (sqrt(v) + epsilon sqrt(c2)), which spares two divisions an element.
 * @param weightDecay joins the gradient: g + weightDecay * p. @param keep is what is left of the parameter: keep * p.
 */
export function updateAdam(
  args: UpdateArgs,
  lr: number,
  moments: Moments,
  weightDecay: number,
  keep: number,
) {
  const { params, grads, step, gradScale } = args
  const [m, v] = [args.slots[0]!, args.slots[1]!]
  const { beta1, beta2, epsilon } = moments
  const correction = Math.sqrt(1 - beta2 ** step)
  const rate = (lr * correction) / (1 - beta1 ** step)
  const eps = epsilon * correction
  const kernels = simd(params, grads, m, v)
  if (!kernels) return adamScalar(args, moments, rate, eps, weightDecay, keep)
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
    weightDecay,
    keep,
    gradScale,
    params.length,
  )
}

function adamScalar(args: UpdateArgs, { beta1, beta2 }: Moments, ...hyper: number[]): void {
  const { params, grads } = args
  const [m, v] = [args.slots[0]!, args.slots[1]!]
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const [rate, epsilon, weightDecay, keep] = hyper.map(f32) as [number, number, number, number]
  const gradScale = f32(args.gradScale)
  const [b1, c1, b2, c2] = [f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2)]
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    const g = f32(f32(grads[i]! * gradScale) + f32(weightDecay * p))
    const mi = f32(f32(b1 * m[i]!) + f32(c1 * g))
    const vi = f32(f32(b2 * v[i]!) + f32(f32(c2 * g) * g))
    m[i] = mi
    v[i] = vi
    params[i] = f32(keep * p) - f32(f32(rate * mi) / f32(f32(Math.sqrt(vi)) + epsilon))
  }
}

/** Throws a LockstepError unless the betas are in [0, 1) and epsilon is a finite number >= 0. */
export function requireMoments(owner: string, { beta1, beta2, epsilon }: Moments): void {
  requireInRange(owner, 'beta1', beta1, 1)
  requireInRange(owner, 'beta2', beta2, 1)
  requireInRange(owner, 'epsilon', epsilon)
}
