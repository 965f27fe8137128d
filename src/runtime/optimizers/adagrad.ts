/** Adagrad (Duchi et al. 2011): every element's rate falls with the squares of all its gradients so far. */
import { simdKernels } from '../../collectives/kernels/simd.js'
import type { DecayOptions, Optimizer, UpdateArgs } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay, requireInRange } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'
import { wasm } from './wasm.generated.js'

interface Exports {
  adagrad(
    params: number,
    grads: number,
    sum: number,
    rate: number,
    initial: number,
    epsilon: number,
    weightDecay: number,
    gradScale: number,
    length: number,
  ): void
}

const simd = simdKernels<Exports>(wasm)

export interface AdagradOptions extends DecayOptions {
  /** The rate falls as lr / (1 + lrDecay * updates done). */
  readonly lrDecay?: number
  readonly initialAccumulator?: number
  readonly epsilon?: number
}

/** Adagrad's numbers of one update. */
interface Rule {
  readonly rate: number
  readonly initial: number
  readonly epsilon: number
  readonly weightDecay: number
}

/**
 * g += weightDecay * p;  sum += g²;  p -= lr / (1 + lrDecay * (step - 1)) * g / (sqrt(initialAccumulator + sum) +
 * epsilon): torch.optim.Adagrad. The slot `sum` starts at zero as all slots do, so it is without the initial value.
 * @throws LockstepError when a number is not finite or below 0.
 */
export function adagrad(lr: LearningRate, options: AdagradOptions = {}): Optimizer {
  const { lrDecay = 0, initialAccumulator = 0, epsilon = 1e-10, weightDecay = 0, mask } = options
  const rateAt = rateOf('adagrad', lr)
  requireInRange('adagrad', 'lrDecay', lrDecay)
  requireInRange('adagrad', 'initialAccumulator', initialAccumulator)
  requireInRange('adagrad', 'epsilon', epsilon)
  requireDecay('adagrad', { weightDecay, mask })
  return {
    name: 'adagrad',
    hyper: { lr: settingsOf(lr), lrDecay, initialAccumulator, epsilon, weightDecay },
    slots: ['sum'],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step) / (1 + lrDecay * (args.step - 1))
      eachDecay(args, weightDecay, mask, (part, decay) =>
        updateAdagrad(part, { rate, initial: initialAccumulator, epsilon, weightDecay: decay }),
      )
    },
  }
}

function updateAdagrad(args: UpdateArgs, rule: Rule) {
  const { params, grads, slots, gradScale } = args
  const sum = slots[0]!
  const kernels = simd(params, grads, sum)
  if (!kernels) return adagradScalar(args, rule)
  const { rate, initial, epsilon, weightDecay } = rule
  const [p, g, s] = [params.byteOffset, grads.byteOffset, sum.byteOffset]
  kernels.adagrad(p, g, s, rate, initial, epsilon, weightDecay, gradScale, params.length)
}

function adagradScalar(args: UpdateArgs, rule: Rule): void {
  const { params, grads } = args
  const sum = args.slots[0]!
  const f32 = Math.fround // after every operation: the bits of the SIMD kernel
  const [rate, initial, epsilon, decay] = [
    f32(rule.rate),
    f32(rule.initial),
    f32(rule.epsilon),
    f32(rule.weightDecay),
  ]
  const gradScale = f32(args.gradScale)
  for (let i = 0; i < params.length; i++) {
    const p = params[i]!
    const g = f32(f32(grads[i]! * gradScale) + f32(decay * p))
    const s = f32(sum[i]! + f32(g * g))
    sum[i] = s
    params[i] = p - f32(f32(rate * g) / f32(f32(Math.sqrt(f32(initial + s))) + epsilon))
  }
}
