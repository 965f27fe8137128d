/** AdamW: Adam whose weight decay shrinks the parameters and stays out of the gradient's moments. */
import { type AdamOptions, requireMoments, updateAdam } from './adam.js'
import type { Optimizer } from './optimizer.js'
import { eachDecay } from './ranges.js'
import { requireDecay } from './require.js'
import { type LearningRate, rateOf, settingsOf } from './schedules.js'

/**
 * p = (1 - lr * weightDecay) * p, then Adam's own update (Loshchilov & Hutter 2019): torch.optim.AdamW, whose factor is
 * rounded to float32 as here.
 * @throws LockstepError when `lr`, `epsilon` or `weightDecay` is not a finite number >= 0, or a beta not in [0, 1).
 */
export function adamw(lr: LearningRate, options: AdamOptions = {}): Optimizer {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01, mask } = options
  const moments = { beta1, beta2, epsilon }
  const rateAt = rateOf('adamw', lr)
  requireMoments('adamw', moments)
  requireDecay('adamw', { weightDecay, mask })
  return {
    name: 'adamw',
    hyper: { lr: settingsOf(lr), ...moments, weightDecay },
    slots: ['m', 'v'],
    granularity: 'element',
    update(args) {
      const rate = rateAt(args.step)
      eachDecay(args, weightDecay, mask, (part, decay) =>
        updateAdam(part, rate, moments, 0, 1 - rate * decay),
      )
    },
  }
}
