/** Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"): steps of one size, only signs count. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay, requireInRange } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  lion(
    params: number,
    grads: number,
    m: number,
    beta1: number,
    oneMinusBeta1: number,
    beta2: number,
    oneMinusBeta2: number,
    rate: number,
    decay: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

export interface LionOptions extends DecayOptions {
  readonly beta1?: number
  readonly beta2?: number
}

/** The betas, and decay = lr * weightDecay. */
interface Rule {
  readonly beta1: number
  readonly beta2: number
  readonly lr: number
  readonly decay: number
}

/**
 * p -= lr * (sign(beta1 m + (1 - beta1) g) + weightDecay * p);  m = beta2 m + (1 - beta2) g: the paper's algorithm 2.
 * It wants a learning rate 3 to 10 times smaller, and a weight decay as much larger, than AdamW.
 * @throws LockstepError when `lr` or `weightDecay` is not a finite number >= 0, or a beta not in [0, 1).
 */
export function lion(lr: LearningRate, options: LionOptions = {}): Optimizer {
  const { beta1 = 0.9, beta2 = 0.99, weightDecay = 0, mask } = options
  const rateAt = rateOf('lion', lr)
  requireInRange('lion', 'beta1', beta1, 1)
  requireInRange('lion', 'beta2', beta2, 1)
  requireDecay('lion', { weightDecay, mask })
  return {
    name: 'lion',
    hyper: { lr: settingsOf(lr), beta1, beta2, weightDecay },
    slots: ['m'],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) =>
        updateLion(part, { beta1, beta2, lr: rate, decay: rate * decay }),
      )
    },
  }
}

function updateLion(args: UpdateArgs, rule: Rule) {
  const { params, grads, gradScale } = args
  const m = args.slots[0]!
  const kernels = simd(params, grads, m)
  if (!kernels) return lionScalar(args, rule)
  const { beta1, beta2, lr, decay } = rule
  kernels.lion(
    params.byteOffset,
    grads.byteOffset,
    m.byteOffset,
    beta1,
    1 - beta1,
    beta2,
    1 - beta2,
    lr,
    decay,
    gradScale,
    params.length,
  )
}

function lionScalar(args: UpdateArgs, { beta1, beta2, ...rule }: Rule): void {
  const { params, grads } = args
  const m = args.slots[0]!
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const gradScale = f32(args.gradScale)
  const [b1, c1, b2, c2] = [f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2)]
  const [lr, decay] = [f32(rule.lr), f32(rule.decay)]
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    const g = f32(grads[i]! * gradScale)
    const sign = Math.sign(f32(f32(b1 * m[i]!) + f32(c1 * g)))
    m[i] = f32(b2 * m[i]!) + f32(c2 * g)
    params[i] = p - f32(f32(lr * sign) + f32(decay * p))
  }
}
