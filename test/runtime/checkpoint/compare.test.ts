import { describe, expect, test } from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import { requireSameTensors } from '../../../src/runtime/checkpoint/compare.js'

const model = [
  { name: 'a/kernel', shape: [2, 3] },
  { name: 'a/bias', shape: [3] },
  { name: 'scalar', shape: [] },
]

describe('requireSameTensors', () => {
  test('passes for the same tensors in any order', () => {
    requireSameTensors('model', model, [...model].reverse(), 'c')
    requireSameTensors('model', [], [], 'c')
  })

  test('names every kind of difference', () => {
    const found = [
      { name: 'a/kernel', shape: [2, 4] },
      { name: 'b/bias', shape: [3] },
      { name: 'scalar', shape: [1] },
    ]
    expect(() => requireSameTensors('model', model, found, 'c/step-00000001')).toThrow(
      new LockstepError(
        'checkpoint c/step-00000001 is not of this model: 1 missing (a/bias [3]); 1 not expected (b/bias [3]); ' +
          '2 of another shape (a/kernel [2,4] instead of [2,3], scalar [1] instead of []); ' +
          'resume with the model and optimizer that were saved, or give another checkpoint directory',
      ),
    )
  })

  test('counts what it does not name', () => {
    const many = Array.from({ length: 12 }, (_, i) => ({ name: `w${i}`, shape: [i] }))
    expect(() => requireSameTensors('optimizer', many, [], 'c')).toThrow(
      'is not of this optimizer: 12 missing (w0 [0], w1 [1], w2 [2], and 9 more); resume',
    )
  })
})
