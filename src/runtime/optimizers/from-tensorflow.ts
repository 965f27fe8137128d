/**
 * Lockstep's equal of a TensorFlow.js optimizer, which itself cannot run on a compiled step. Only where the formulas are
 * the same; it refuses to come close.
 */
import type { Optimizer as TensorflowOptimizer } from '@tensorflow/tfjs-core'
import { LockstepError } from '../../errors.js'
import { adagrad } from './adagrad.js'
import { adam } from './adam.js'
import { momentum } from './momentum.js'
import type { Optimizer } from './optimizer.js'
import { rmsprop } from './rmsprop.js'
import { sgd } from './sgd.js'

/** TensorFlow.js' own `getConfig()`, by class. */
interface Configs {
  SGD: { learningRate: number }
  Momentum: { learningRate: number; momentum: number; useNesterov: boolean }
  Adam: { learningRate: number; beta1: number; beta2: number; epsilon: number }
  Adagrad: { learningRate: number; initialAccumulatorValue: number }
  RMSProp: { learningRate: number; decay: number; momentum: number; epsilon: number; centered: boolean }
}

/** What TensorFlow.js' float32 backends add under Adagrad's root. */
const EPSILON = 1e-7

const equals: { [Class in keyof Configs]: (config: Configs[Class]) => Optimizer } = {
  SGD: ({ learningRate }) => sgd(learningRate),
  Momentum: ({ learningRate, useNesterov, ...config }) =>
    momentum(learningRate, { momentum: config.momentum, nesterov: useNesterov }),
  Adam: ({ learningRate, ...moments }) => adam(learningRate, moments),
  Adagrad: ({ learningRate, initialAccumulatorValue }) =>
    adagrad(learningRate, { initialAccumulator: initialAccumulatorValue + EPSILON, epsilon: 0 }),
  RMSProp: ({ learningRate, decay, centered, ...config }) => {
    if (!centered) return rmsprop(learningRate, { ...config, alpha: decay, epsilonInRoot: true })
    throw new LockstepError(
      'tf.train.rmsprop with centered: true has no equal (it takes epsilon off the variance, which can turn NaN): ' +
        `use rmsprop(${learningRate}, { alpha: ${decay}, momentum: ${config.momentum}, centered: true })`,
    )
  },
}

/**
 * sgd, momentum, adam, adagrad and rmsprop (not centered) of `tf.train`, with their hyper-parameters; same formulas.
 * @throws LockstepError for others, naming what to use instead, and for one that has already trained: its state would
 *   be lost.
 */
export function fromTensorflow(optimizer: TensorflowOptimizer): Optimizer {
  const name = optimizer.getClassName()
  if (!Object.hasOwn(equals, name)) {
    throw new LockstepError(
      `the TensorFlow.js optimizer ${name} has no equal in Lockstep: use one of tf.train.sgd, momentum, adam, adagrad, ` +
        "rmsprop, or one of Lockstep's own, such as adamw(1e-3)",
    )
  }
  if (optimizer.iterations > 0) {
    throw new LockstepError(
      `the TensorFlow.js optimizer ${name} has already done ${optimizer.iterations} steps, and its state cannot be taken ` +
        'over: give ddp() a new one',
    )
  }
  const convert = equals[name as keyof Configs] as (config: object) => Optimizer
  return convert(optimizer.getConfig())
}

/** `given` if it is one of Lockstep's optimizers, its equal if it is TensorFlow.js'. @throws LockstepError otherwise. */
export function optimizerOf(given: Optimizer | TensorflowOptimizer): Optimizer {
  if ('update' in Object(given)) return given as Optimizer
  if ('applyGradients' in Object(given)) return fromTensorflow(given as TensorflowOptimizer)
  throw new LockstepError(
    `optimizer is ${typeof given === 'string' ? JSON.stringify(given) : typeof given}: expected one of Lockstep's, such ` +
      'as adam(1e-3), or one of tf.train',
  )
}
