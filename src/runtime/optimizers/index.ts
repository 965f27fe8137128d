/** The optimizers by name, for command lines and checkpoints. A new one costs its file and a row here. */
import { LockstepError } from '../../errors.js'
import { adam } from './adam.js'
import { momentum } from './momentum.js'
import type { Optimizer } from './optimizer.js'
import { sgd } from './sgd.js'

const optimizers = new Map<string, (lr: number) => Optimizer>([
  ['sgd', sgd],
  ['momentum', momentum],
  ['adam', adam],
])

/** @throws LockstepError naming the known optimizers when `name` is none of them, or when `lr` is out of range. */
export function optimizerByName(name: string, lr: number): Optimizer {
  const make = optimizers.get(name)
  if (make) return make(lr)
  throw new LockstepError(
    `unknown optimizer ${JSON.stringify(name)}: expected ${[...optimizers.keys()].join(', ')}`,
  )
}

export { adam, momentum, type Optimizer, sgd }
