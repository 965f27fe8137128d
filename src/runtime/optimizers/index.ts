/** The optimizers by name, for command lines and checkpoints. A new one costs its file and a row here. */
import { LockstepError } from '../../errors.js'
import { adagrad } from './adagrad.js'
import { adam } from './adam.js'
import { adamw } from './adamw.js'
import { lamb } from './lamb.js'
import { lion } from './lion.js'
import { momentum } from './momentum.js'
import type { Optimizer } from './optimizer.js'
import { rmsprop } from './rmsprop.js'
import type { LearningRate } from './schedules.js'
import { sgd } from './sgd.js'

const optimizers = new Map<string, (lr: LearningRate) => Optimizer>([
  ['sgd', sgd],
  ['momentum', momentum],
  ['nesterov', (lr) => momentum(lr, { nesterov: true })],
  ['adam', adam],
  ['adamw', adamw],
  ['adagrad', adagrad],
  ['rmsprop', rmsprop],
  ['lamb', lamb],
  ['lion', lion],
])

/** @throws LockstepError naming the known optimizers when `name` is none of them, or when `lr` is out of range. */
export function optimizerByName(name: string, lr: LearningRate): Optimizer {
  const make = optimizers.get(name)
  if (make) return make(lr)
  throw new LockstepError(
    `unknown optimizer ${JSON.stringify(name)}: expected ${[...optimizers.keys()].join(', ')}`,
  )
}

export { clipByGlobalNorm, clipByValue } from './clip.js'
export { fromTensorflow } from './from-tensorflow.js'
export type { DecayMask, Optimizer, UpdateArgs } from './optimizer.js'
export {
  constant,
  cosine,
  exponentialDecay,
  type LearningRate,
  linearWarmup,
  oneCycle,
  type Schedule,
  stepDecay,
} from './schedules.js'
export { adagrad, adam, adamw, lamb, lion, momentum, rmsprop, sgd }
