/**
 * LAMB (You et al. 2020, "Large Batch Optimization for Deep Learning"): Adam's direction, with every tensor's step
 * scaled to that tensor's own norm. Needs whole tensors.
 */
import { simdKernels } from '../../collectives/kernels/simd.js'
import { type AdamOptions, type Moments, requireMoments } from './adam.js'
import { l2Norm } from './norm.js'
import type { Optimizer, UpdateArgs } from './optimizer.js'
import { partOf } from './ranges.js'
import { requireDecay } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { descend } from './sgd.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  lamb(
    params: number,
    grads: number,
    m: number,
    v: number,
    beta1: number,
    oneMinusBeta1: number,
    beta2: number,
    oneMinusBeta2: number,
    correction: number,
    epsilon: number,
    weightDecay: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

/**
 * m and v as in Adam;  u = m̂ / (sqrt(v̂) + epsilon) + weightDecay * p;  p -= lr * ‖p‖ / ‖u‖ * u, norms per tensor, their
 * ratio 1 where one of them is 0: the paper's algorithm 2 with φ the identity; epsilon and weight decay as for BERT.
 * @throws LockstepError when `lr`, `epsilon` or `weightDecay` is not a finite number >= 0, or a beta not in [0, 1).
 */
export function lamb(lr: LearningRate, options: AdamOptions = {}): Optimizer {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6, weightDecay = 0.01, mask = () => true } = options
  const moments = { beta1, beta2, epsilon }
  const rateAt = rateOf('lamb', lr)
  requireMoments('lamb', moments)
  requireDecay('lamb', { weightDecay, mask })
  return {
    name: 'lamb',
    hyper: { lr: settingsOf(lr), ...moments, weightDecay },
    slots: ['m', 'v'],
    granularity: 'tensor',
    update(args) {
      const rate = rateAt(args.step)
      for (const { name, shape, start, end } of args.tensors) {
        const tensor = partOf(args, start, end)
        direction(tensor, moments, mask(name, shape) ? weightDecay : 0)
        const [size, step] = [l2Norm(tensor.params), l2Norm(tensor.grads)]
        descend(tensor, size > 0 && step > 0 ? (rate * size) / step : rate, 0)
      }
    },
  }
}

/** Updates the moments and puts u in the place of the gradients; the bias corrections as in ./adam.ts. */
function direction(args: UpdateArgs, moments: Moments, weightDecay: number) {
  const { params, grads, step, gradScale } = args
  const [m, v] = [args.slots[0]!, args.slots[1]!]
  const { beta1, beta2, epsilon } = moments
  const root = Math.sqrt(1 - beta2 ** step)
  const correction = root / (1 - beta1 ** step)
  const kernels = simd(params, grads, m, v)
  if (!kernels) return directionScalar(args, moments, correction, epsilon * root, weightDecay)
  kernels.lamb(
    params.byteOffset,
    grads.byteOffset,
    m.byteOffset,
    v.byteOffset,
    beta1,
    1 - beta1,
    beta2,
    1 - beta2,
    correction,
    epsilon * root,
    weightDecay,
    gradScale,
    params.length,
  )
}

function directionScalar(args: UpdateArgs, { beta1, beta2 }: Moments, ...hyper: number[]): void {
  const { params, grads } = args
  const [m, v] = [args.slots[0]!, args.slots[1]!]
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const [correction, epsilon, decay] = hyper.map(f32) as [number, number, number]
  const gradScale = f32(args.gradScale)
  const [b1, c1, b2, c2] = [f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2)]
  for (let i = 0; i < params.length; i++) {
    const g = f32(grads[i]! * gradScale)
    const mi = f32(f32(b1 * m[i]!) + f32(c1 * g))
    const vi = f32(f32(b2 * v[i]!) + f32(f32(c2 * g) * g))
    m[i] = mi
    v[i] = vi
    grads[i] = f32(f32(correction * mi) / f32(f32(Math.sqrt(vi)) + epsilon)) + f32(decay * params[i]!)
  }
}
