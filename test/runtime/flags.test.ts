import { describe, expect, test } from 'vitest'
import { LockstepError } from '../../src/errors.js'
import { readFlags } from '../../src/runtime/flags.js'

const defaults = {
  steps: Number.POSITIVE_INFINITY,
  batch: 64,
  seed: 0,
  lr: 0.01,
  optimizer: ['adam', 'sgd'],
  saveTo: '',
} as const

const read = (...args: string[]) => readFlags(defaults, args)

test('what is not given has its default', () => {
  expect(read()).toEqual({
    steps: Number.POSITIVE_INFINITY,
    batch: 64,
    seed: 0,
    lr: 0.01,
    optimizer: 'adam',
    saveTo: '',
  })
})

test('what is given is read as its default is', () => {
  const flags = read('--steps', '7', '--batch=3', '--seed', '0', '--lr', '1', '--optimizer', 'sgd')
  expect(flags).toEqual({ steps: 7, batch: 3, seed: 0, lr: 1, optimizer: 'sgd', saveTo: '' })
  expect(read('--save-to', 'a b').saveTo).toBe('a b')
})

describe('one line says what is wrong', () => {
  test.each<[string[], string]>([
    [['--batch', '0'], '--batch is "0": expected a whole number of at least 1'],
    [['--steps', '1.5'], '--steps is "1.5": expected a whole number of at least 1'],
    [['--seed', '1e99'], '--seed is "1e99": expected a whole number of at least 0'],
    [['--lr', '0'], '--lr is "0": expected a number above 0'],
    [['--lr', ' '], '--lr is " ": expected a number above 0'],
    [['--optimizer', 'adm'], '--optimizer is "adm": expected adam, sgd'],
    [['--stpes', '1'], "Unknown option '--stpes': expected --steps …, --batch …"],
    [['--steps'], "Option '--steps <value>' argument missing: expected --steps …"],
    [['7'], "Unexpected argument '7'"],
  ])('%j', (args, message) => {
    expect(() => read(...args)).toThrow(LockstepError)
    expect(() => read(...args)).toThrow(message)
    expect(() => read(...args)).not.toThrow('\n')
  })
})
