/** The loss scale's rules: those of torch.amp.GradScaler. */
import { describe, expect, test } from 'vitest'
import { LossScale, type LossScaleOptions } from '../../../src/runtime/precision/loss-scale.js'

const made = (wanted: Parameters<typeof LossScale.from>[0], precision = 'float16') =>
  LossScale.from(wanted, precision)!

test('float16 alone has a dynamic one by default, which begins at 65536', () => {
  expect(made(undefined).scale).toBe(65536)
  expect(LossScale.from(undefined, 'bfloat16')).toBeUndefined()
  expect(LossScale.from(undefined, 'float32')).toBeUndefined()
  expect(made('dynamic', 'float32').scale).toBe(65536)
})

test('it doubles after 2000 steps without an overflow, and halves at one, which starts the count anew', () => {
  const scale = made('dynamic')
  for (let i = 0; i < 1999; i++) scale.succeeded()
  expect(scale.scale).toBe(65536)
  scale.succeeded()
  expect(scale.scale).toBe(131072)
  for (let i = 0; i < 1999; i++) scale.succeeded()
  expect(scale.overflowed()).toBeUndefined()
  expect(scale.scale).toBe(65536)
  for (let i = 0; i < 1999; i++) scale.succeeded()
  expect(scale.scale).toBe(65536)
  scale.succeeded()
  expect(scale.scale).toBe(131072)
})

test('it does not grow past float32', () => {
  const scale = made({ initScale: 2 ** 127, growthInterval: 1 })
  scale.succeeded()
  expect(scale.scale).toBe(2 ** 127)
})

test('below its minimum it cannot go on', () => {
  const scale = made({ initScale: 4, minScale: 2 })
  expect(scale.overflowed()).toBeUndefined()
  expect(scale.scale).toBe(2)
  expect(scale.overflowed()).toBe('the loss scale would fall from 2 to 1, below its minimum of 2')
  expect(scale.scale).toBe(2)
})

test('a constant one stays, and gives up when it skips all the time', () => {
  const scale = made(1024)
  for (let i = 0; i < 19; i++) expect(scale.overflowed()).toBeUndefined()
  scale.succeeded()
  for (let i = 0; i < 19; i++) expect(scale.overflowed()).toBeUndefined()
  expect(scale.overflowed()).toMatch(/constant, 1024, and 20 steps in a row/)
  expect(scale.scale).toBe(1024)
})

test('a checkpoint brings back scale and count', () => {
  const before = made({ growthInterval: 3 })
  before.overflowed()
  before.succeeded()
  before.succeeded()
  const after = made({ growthInterval: 3 })
  after.load(before.state)
  expect(after.scale).toBe(32768)
  after.succeeded()
  expect(after.scale).toBe(65536)
})

describe('bad input', () => {
  test.each<[string, number | string | LossScaleOptions, string]>([
    ['zero', 0, 'lossScale is 0: expected a number above 0'],
    ['NaN', Number.NaN, 'expected a number above 0'],
    ['a name', 'auto', 'lossScale is "auto": expected dynamic, a number above 0, or {'],
    ['initScale', { initScale: 0.5 }, 'initScale is 0.5: expected a number from minScale (1) on'],
    ['growthFactor', { growthFactor: 0.5 }, 'growthFactor is 0.5: expected a number of at least 1'],
    ['backoffFactor', { backoffFactor: 1 }, 'backoffFactor is 1: expected a number between 0 and 1'],
    ['growthInterval', { growthInterval: 1.5 }, 'growthInterval is 1.5: expected a whole number of steps'],
    ['minScale', { minScale: 0 }, 'minScale is 0: expected a number above 0'],
  ])('%s', (_, wanted, message) => {
    expect(() => made(wanted as 'dynamic')).toThrow(message)
  })
})
