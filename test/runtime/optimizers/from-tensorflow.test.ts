/** TensorFlow.js' optimizers against what they are turned into, step by step. */
import * as tf from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-backend-cpu'
import { describe, expect, test } from 'vitest'
import { fromTensorflow, optimizerOf } from '../../../src/runtime/optimizers/from-tensorflow.js'
import { adam } from '../../../src/runtime/optimizers/index.js'
import { quietTensorflow } from '../../../src/runtime/quiet-tensorflow.js'
import { buffers } from './cases.js'

quietTensorflow()

test.each([
  ['sgd', () => tf.train.sgd(0.05)],
  ['momentum', () => tf.train.momentum(0.02, 0.8)],
  ['nesterov', () => tf.train.momentum(0.02, 0.8, true)],
  ['adam', () => tf.train.adam()],
  ['adam, own numbers', () => tf.train.adam(0.01, 0.8, 0.95, 1e-3)],
  ['adagrad', () => tf.train.adagrad(0.05)],
  ['adagrad, own numbers', () => tf.train.adagrad(0.05, 1e-6)],
  ['rmsprop', () => tf.train.rmsprop(0.001)],
  ['rmsprop, own numbers', () => tf.train.rmsprop(0.001, 0.8, 0.5, 1e-3)],
])('%s has an equal', (_name, make) => {
  const [theirs, ours] = [make(), fromTensorflow(make())]
  const length = 23
  const args = buffers(ours, length, (n) => new Float32Array(n))
  args.params.forEach((_, i) => {
    args.params[i] = (i - 11) / 8
  })
  const variable = tf.variable(tf.tensor1d(args.params.slice()))
  for (let step = 1; step <= 100; step++) {
    args.grads.forEach((_, i) => {
      args.grads[i] = (((step * 31 + i * 17) % 101) - 50) / 64
    })
    tf.tidy(() => theirs.applyGradients([{ name: variable.name, tensor: tf.tensor1d(args.grads.slice()) }]))
    ours.update({ ...args, step, gradScale: 1 })
    const expected = variable.dataSync()
    args.params.forEach((p, i) => {
      expect(Math.abs(p - expected[i]!), `step ${step}, element ${i}`).toBeLessThan(1e-6)
    })
  }
  variable.dispose()
  theirs.dispose()
})

describe('what has no equal is refused in one line', () => {
  const used = () => {
    const optimizer = tf.train.sgd(0.1)
    const variable = tf.variable(tf.scalar(1))
    optimizer.applyGradients([{ name: variable.name, tensor: tf.scalar(1) }])
    variable.dispose()
    return optimizer
  }

  test.each([
    ['adamax', () => tf.train.adamax(), /^the TensorFlow.js optimizer Adamax has no equal .* adamw\(1e-3\)$/],
    ['adadelta', () => tf.train.adadelta(), /^the TensorFlow.js optimizer Adadelta has no equal/],
    [
      'rmsprop centered',
      () => tf.train.rmsprop(0.1, 0.8, 0.5, 1e-3, true),
      /has no equal .*: use rmsprop\(0.1, { alpha: 0.8, momentum: 0.5, centered: true }\)$/,
    ],
    [
      'a used one',
      used,
      /^the TensorFlow.js optimizer SGD has already done 1 steps, .* give ddp\(\) a new one$/,
    ],
    ['a bad number', () => tf.train.sgd(-1), /^sgd: lr is -1: expected/],
  ])('%s', (_name, make, message) => {
    expect(() => fromTensorflow(make())).toThrow(
      expect.objectContaining({ name: 'LockstepError', message: expect.stringMatching(message) }),
    )
  })

  test.each([
    ['adam', /^optimizer is "adam": expected one of Lockstep's, such as adam\(1e-3\), or one of tf.train$/],
    [undefined, /^optimizer is undefined: expected/],
    [{ lr: 1 }, /^optimizer is object: expected/],
    [adam, /^optimizer is function: expected/],
  ])('%o', (given, message) => {
    expect(() => optimizerOf(given as never)).toThrow(message)
  })
})
