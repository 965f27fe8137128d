/** What the suites of optimizers share: modules in either mode, buffers, and a model of two tensors. */
import { vi } from 'vitest'
import type { Optimizer, TensorRange } from '../../../src/runtime/optimizers/optimizer.js'

export type Optimizers = typeof import('../../../src/runtime/optimizers/index.js')
export type Alloc = (floats: number) => Float32Array

/** Fresh modules, so that LOCKSTEP_KERNELS is read again (the choice is made once per process), and an arena. */
export async function load(): Promise<{ optimizers: Optimizers; alloc: Alloc }> {
  vi.resetModules()
  const optimizers = await import('../../../src/runtime/optimizers/index.js')
  const { Arena } = await import('../../../src/collectives/kernels/arena.js')
  const arena = new Arena(4_000_000)
  return { optimizers, alloc: (floats) => arena.alloc(floats) }
}

/** A matrix of 16 numbers and a vector of what is left of `length`, without padding. */
export function twoTensors(length: number): TensorRange[] {
  const tensors = [
    { name: 'dense/kernel', shape: [4, 4], start: 0, end: Math.min(16, length) },
    { name: 'dense/bias', shape: [Math.max(0, length - 16)], start: 16, end: length },
  ]
  return tensors.filter(({ start, end }) => end > start)
}

export const isMatrix = (_name: string, shape: readonly number[]) => shape.length > 1

/** One of every kind of update, all options in use. */
export const variants: readonly (readonly [string, (optimizers: Optimizers) => Optimizer])[] = [
  ['sgd', ({ sgd }) => sgd(0.1)],
  ['sgd, decay', ({ sgd }) => sgd(0.1, { weightDecay: 0.1, mask: isMatrix })],
  ['momentum', ({ momentum }) => momentum(0.1)],
  ['nesterov, decay', ({ momentum }) => momentum(0.1, { nesterov: true, weightDecay: 0.1 })],
  ['adam', ({ adam }) => adam(0.01)],
  ['adam, decay', ({ adam }) => adam(0.01, { weightDecay: 0.1, mask: isMatrix })],
  ['adamw', ({ adamw }) => adamw(0.01, { weightDecay: 0.1, mask: isMatrix })],
  ['adagrad', ({ adagrad }) => adagrad(0.1, { lrDecay: 0.1, weightDecay: 0.1, initialAccumulator: 0.3 })],
  ['rmsprop', ({ rmsprop }) => rmsprop(0.01, { weightDecay: 0.1 })],
  ['rmsprop, momentum', ({ rmsprop }) => rmsprop(0.01, { momentum: 0.9, epsilonInRoot: true })],
  ['rmsprop, centered', ({ rmsprop }) => rmsprop(0.01, { centered: true, epsilon: 1e-3 })],
  [
    'rmsprop, all',
    ({ rmsprop }) => rmsprop(0.01, { centered: true, momentum: 0.9, epsilon: 1e-3, weightDecay: 0.1 }),
  ],
  ['lion', ({ lion }) => lion(0.01, { weightDecay: 0.1 })],
  ['lamb', ({ lamb }) => lamb(0.01, { mask: isMatrix })],
  ['clipped by value', ({ adam, clipByValue }) => clipByValue(adam(0.01), 0.3)],
  ['clipped by norm', ({ momentum, clipByGlobalNorm }) => clipByGlobalNorm(momentum(0.1), 1)],
  [
    'clipped twice, schedule',
    ({ adamw, clipByGlobalNorm, clipByValue, cosine }) =>
      clipByGlobalNorm(clipByValue(adamw(cosine({ lr: 0.1, steps: 10 })), 0.1), 1),
  ],
]

export function buffers(optimizer: Optimizer, length: number, alloc: Alloc) {
  return {
    params: alloc(length),
    grads: alloc(length),
    slots: optimizer.slots.map(() => alloc(length)),
    tensors: twoTensors(length),
  }
}

/** Parameters and gradients of many magnitudes; gradients of `step`, since an update may overwrite them. */
export function fillParams(params: Float32Array): void {
  for (let i = 0; i < params.length; i++) params[i] = Math.sin(i * 7.3)
}
export function fillGrads(grads: Float32Array, step: number): void {
  for (let i = 0; i < grads.length; i++) grads[i] = Math.cos(i * 3.1 + step) * 10 ** ((i % 9) - 4)
}
