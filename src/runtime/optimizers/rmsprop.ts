/** RMSProp (Hinton 2012, lecture 6e), with momentum and centered (Graves 2013) as PyTorch has them. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay, requireInRange } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  rmsprop(
    params: number,
    grads: number,
    square: number,
    mean: number,
    velocity: number,
    centered: boolean,
    moving: boolean,
    rate: number,
    alpha: number,
    oneMinusAlpha: number,
    mu: number,
    rootEpsilon: number,
    epsilon: number,
    weightDecay: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

export interface RmspropOptions extends DecayOptions {
  readonly alpha?: number
  readonly epsilon?: number
  readonly momentum?: number
  readonly centered?: boolean
  /** sqrt(… + epsilon) instead of sqrt(…) + epsilon: TensorFlow.js' and Keras' form. */
  readonly epsilonInRoot?: boolean
}

/** RMSProp's numbers; its slots are `square`, then `mean` if centered, then `velocity` if there is momentum. */
interface Rule {
  readonly alpha: number
  readonly rootEpsilon: number
  readonly epsilon: number
  readonly momentum: number
  readonly centered: boolean
}

/**
 * g += weightDecay * p;  s = alpha s + (1 - alpha) g²;  a = sqrt(s) + epsilon, or, centered with
 * u = alpha u + (1 - alpha) g, a = sqrt(s - u²) + epsilon;  v = momentum v + g / a;  p -= lr * v: torch.optim.RMSprop.
 * @throws LockstepError when `lr`, `epsilon` or `weightDecay` is not a finite number >= 0, or `alpha` or `momentum`
 *   not in [0, 1).
 */
export function rmsprop(lr: LearningRate, options: RmspropOptions = {}): Optimizer {
  const { alpha = 0.99, epsilon = 1e-8, momentum = 0, centered = false, epsilonInRoot = false } = options
  const { weightDecay = 0, mask } = options
  const rateAt = rateOf('rmsprop', lr)
  requireInRange('rmsprop', 'alpha', alpha, 1)
  requireInRange('rmsprop', 'epsilon', epsilon)
  requireInRange('rmsprop', 'momentum', momentum, 1)
  requireDecay('rmsprop', { weightDecay, mask })
  const [rootEpsilon, plainEpsilon] = epsilonInRoot ? [epsilon, 0] : [0, epsilon]
  const rule = { alpha, rootEpsilon, epsilon: plainEpsilon, momentum, centered }
  const flags = { centered: Number(centered), epsilonInRoot: Number(epsilonInRoot) }
  return {
    name: 'rmsprop',
    hyper: { lr: settingsOf(lr), alpha, epsilon, momentum, ...flags, weightDecay },
    slots: ['square', ...(centered ? ['mean'] : []), ...(momentum > 0 ? ['velocity'] : [])],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) => updateRmsprop(part, rule, rate, decay))
    },
  }
}

function updateRmsprop(args: UpdateArgs, rule: Rule, lr: number, weightDecay: number) {
  const { params, grads, slots, gradScale } = args
  const { alpha, momentum, centered } = rule
  const kernels = simd(params, grads, ...slots)
  if (!kernels) return rmspropScalar(args, rule, lr, weightDecay)
  kernels.rmsprop(
    params.byteOffset,
    grads.byteOffset,
    slots[0]!.byteOffset,
    slots[1]?.byteOffset ?? 0, // only read if centered
    slots.at(-1)!.byteOffset, // only read if there is momentum
    centered,
    momentum > 0,
    lr,
    alpha,
    1 - alpha,
    momentum,
    rule.rootEpsilon,
    rule.epsilon,
    weightDecay,
    gradScale,
    params.length,
  )
}

function rmspropScalar(args: UpdateArgs, rule: Rule, lr: number, weightDecay: number): void {
  const { params, grads, slots } = args
  const { centered } = rule
  const [square, mean, velocity] = [slots[0]!, slots[1]!, slots.at(-1)!]
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const gradScale = f32(args.gradScale)
  const [rate, decay, mu] = [f32(lr), f32(weightDecay), f32(rule.momentum)]
  const [a, c, inRoot, epsilon] = [
    f32(rule.alpha),
    f32(1 - rule.alpha),
    f32(rule.rootEpsilon),
    f32(rule.epsilon),
  ]
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    const g = f32(f32(grads[i]! * gradScale) + f32(decay * p))
    let variance = f32(f32(a * square[i]!) + f32(f32(c * g) * g))
    square[i] = variance
    if (centered) {
      const u = f32(f32(a * mean[i]!) + f32(c * g))
      mean[i] = u
      variance = f32(variance - f32(u * u))
    }
    let direction = f32(g / f32(f32(Math.sqrt(f32(variance + inRoot))) + epsilon))
    if (mu > 0) {
      direction = f32(f32(mu * velocity[i]!) + direction)
      velocity[i] = direction
    }
    params[i] = p - f32(rate * direction)
  }
}
