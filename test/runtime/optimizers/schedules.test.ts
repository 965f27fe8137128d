/** Learning-rate schedules against PyTorch's, and what becomes of them inside an optimizer. */
import { describe, expect, test } from 'vitest'
import * as optimizers from '../../../src/runtime/optimizers/index.js'
import { type LearningRate, rateOf } from '../../../src/runtime/optimizers/schedules.js'
import golden from './golden/optimizers.json' with { type: 'json' }
import { scheduleOf } from './schedule-of.js'

const { adam, constant, cosine, exponentialDecay, linearWarmup, oneCycle, sgd, stepDecay } = optimizers

test.each(golden.schedules)('$settings follows PyTorch for 100 steps', ({ settings, rates }) => {
  const schedule = scheduleOf(optimizers, settings)
  rates.forEach((rate, done) => {
    expect(Math.abs(schedule(done) - rate) / rate, `after ${done} updates`).toBeLessThan(1e-6)
  })
  expect(schedule.settings).toEqual(settings)
})

test('a schedule stays at its end', () => {
  expect(cosine({ lr: 1, steps: 10, floor: 0.1 })(11)).toBeCloseTo(0.1, 12)
  expect(cosine({ lr: 1, steps: 10 })(1e9)).toBe(0)
  expect(oneCycle({ peak: 1, steps: 10 })(1e9)).toBeCloseTo(1 / 25 / 1e4, 12)
  expect(oneCycle({ peak: 1, steps: 1 })(0)).toBeCloseTo(1 / 25 / 1e4, 12)
  expect(stepDecay({ lr: 1, every: 1 })(1e9)).toBe(0)
})

test('warm-up from nothing reaches the rate after its steps', () => {
  const rate = linearWarmup({ steps: 4, next: 2 })
  expect([0, 1, 2, 3, 4, 5].map(rate)).toEqual([0, 0.5, 1, 1.5, 2, 2])
})

test('the first update has the rate of step 0', () => {
  const rate = rateOf('sgd', (done) => done + 10)
  expect([rate(1), rate(2)]).toEqual([10, 11])
})

test('a checkpoint records the schedule', () => {
  const settings = { schedule: 'cosine', lr: 0.1, steps: 5, floor: 0 }
  expect(sgd(cosine({ lr: 0.1, steps: 5 })).hyper.lr).toEqual(settings)
  expect(adam(0.1).hyper.lr).toBe(0.1)
  expect(adam((done) => 1 / (done + 1)).hyper.lr).toEqual({ schedule: 'custom' })
  const mine = () => 1
  expect(adam(mine).hyper.lr).toEqual({ schedule: 'mine' })
})

describe('bad values', () => {
  test.each([
    [() => constant(-1), 'constant: lr is -1: expected a finite number >= 0'],
    [() => cosine({ lr: 1, steps: 0 }), 'cosine: steps is 0: expected a whole number of steps >= 1'],
    [() => cosine({ lr: 1 } as never), 'cosine: steps is undefined: expected a whole number of steps >= 1'],
    [
      () => cosine({ lr: 1, steps: 9, floor: Number.NaN }),
      'cosine: floor is NaN: expected a finite number >= 0',
    ],
    [
      () => stepDecay({ lr: 1, every: 1.5 }),
      'stepDecay: every is 1.5: expected a whole number of steps >= 1',
    ],
    [
      () => exponentialDecay({ lr: 1, factor: -0.5 }),
      'exponentialDecay: factor is -0.5: expected a finite number >= 0',
    ],
    [() => linearWarmup({ steps: 5, next: -3 }), 'constant: lr is -3: expected a finite number >= 0'],
    [() => oneCycle({ peak: 1, steps: 5, rise: 1 }), 'oneCycle: rise is 1: expected a number >= 0 and < 1'],
    [() => oneCycle({ peak: 1, steps: 5, divide: 0 }), 'oneCycle: divide is 0: expected a finite number > 0'],
    [
      () =>
        step(
          sgd(() => Number.NaN),
          7,
        ),
      'sgd: lr is NaN at step 7: expected a finite number >= 0',
    ],
    [
      () => step(sgd((() => undefined) as unknown as LearningRate), 1),
      'sgd: lr is undefined at step 1: expected a finite number >= 0',
    ],
  ])('%s', (call, message) => {
    expect(call).toThrow(expect.objectContaining({ name: 'LockstepError', message }))
  })
})

function step(optimizer: optimizers.Optimizer, step: number): void {
  const [params, grads] = [new Float32Array(1), new Float32Array(1)]
  optimizer.update({ params, grads, slots: [], tensors: [], step, gradScale: 1 })
}
