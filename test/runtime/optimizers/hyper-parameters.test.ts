/** Hyper-parameters that cannot be, and names that are not known: one line each. */
import { expect, test } from 'vitest'
import {
  adagrad,
  adam,
  adamw,
  clipByGlobalNorm,
  clipByValue,
  lamb,
  lion,
  momentum,
  optimizerByName,
  rmsprop,
  sgd,
} from '../../../src/runtime/optimizers/index.js'

const orSchedule = 'expected a finite number >= 0, or a schedule such as cosine({ lr, steps })'
const known = 'expected sgd, momentum, nesterov, adam, adamw, adagrad, rmsprop, lamb, lion'

test.each([
  [() => sgd(-1), `sgd: lr is -1: ${orSchedule}`],
  [() => sgd(Number.NaN), `sgd: lr is NaN: ${orSchedule}`],
  [() => sgd(1, { weightDecay: -1 }), 'sgd: weightDecay is -1: expected a finite number >= 0'],
  [
    () => sgd(1, { weightDecay: 1, mask: 'bias' as never }),
    'sgd: mask is "bias": expected a function (name, shape) => boolean, true where weights decay',
  ],
  [() => momentum(Number.POSITIVE_INFINITY), `momentum: lr is Infinity: ${orSchedule}`],
  [() => momentum(1, { momentum: 1 }), 'momentum: momentum is 1: expected a number >= 0 and < 1'],
  [() => adam('x' as unknown as number), `adam: lr is x: ${orSchedule}`],
  [() => adam(1, { beta1: 1.5 }), 'adam: beta1 is 1.5: expected a number >= 0 and < 1'],
  [() => adam(1, { beta2: -0.1 }), 'adam: beta2 is -0.1: expected a number >= 0 and < 1'],
  [() => adam(1, { epsilon: Number.NaN }), 'adam: epsilon is NaN: expected a finite number >= 0'],
  [() => adamw(1, { beta1: 1 }), 'adamw: beta1 is 1: expected a number >= 0 and < 1'],
  [() => adagrad(1, { lrDecay: -1 }), 'adagrad: lrDecay is -1: expected a finite number >= 0'],
  [() => rmsprop(1, { alpha: 1 }), 'rmsprop: alpha is 1: expected a number >= 0 and < 1'],
  [() => lamb(1, { epsilon: -1 }), 'lamb: epsilon is -1: expected a finite number >= 0'],
  [() => lion(1, { beta2: 2 }), 'lion: beta2 is 2: expected a number >= 0 and < 1'],
  [() => clipByValue(sgd(1), 0), 'clipByValue: limit is 0: expected a finite number > 0'],
  [() => clipByGlobalNorm(sgd(1), -1), 'clipByGlobalNorm: maxNorm is -1: expected a finite number > 0'],
  [() => optimizerByName('adamax', 1), `unknown optimizer "adamax": ${known}`],
  [() => optimizerByName('constructor', 1), `unknown optimizer "constructor": ${known}`],
  [() => optimizerByName('sgd', -2), `sgd: lr is -2: ${orSchedule}`],
])('%s', (call, message) => {
  expect(call).toThrow(expect.objectContaining({ name: 'LockstepError', message }))
})

test('every name makes its optimizer', () => {
  for (const name of known.replace('expected ', '').split(', ')) {
    const optimizer = optimizerByName(name, 0.1)
    expect(optimizer.name).toBe(name === 'nesterov' ? 'momentum' : name)
    expect(JSON.parse(JSON.stringify(optimizer.hyper))).toEqual(optimizer.hyper)
  }
})
