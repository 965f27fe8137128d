/** Which part of a model may be updated when, and what lies in it: properties over random models. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { TensorRange, UpdateArgs } from '../../../src/runtime/optimizers/optimizer.js'
import { cut, eachDecay, updatable } from '../../../src/runtime/optimizers/ranges.js'

/** Tensors of the given sizes, each padded to 16 as a model's are. */
function modelOf(sizes: readonly number[]): { tensors: TensorRange[]; length: number } {
  let length = 0
  const tensors = sizes.map((size, i) => {
    const start = length
    length += Math.ceil(size / 16) * 16
    return { name: `tensor${i}`, shape: [size], start, end: start + size }
  })
  return { tensors, length }
}
const models = fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 8 }).map(modelOf)

describe('updatable', () => {
  test('elements at once, tensors when they are whole, the model at the end', () => {
    const { tensors, length } = modelOf([20, 16, 40])
    const parts = (granularity: 'element' | 'tensor' | 'model') =>
      [0, 16, 32, 48, 64, 96].map((arrived) => updatable(granularity, tensors, arrived, length))
    expect(length).toBe(96)
    expect(parts('element')).toEqual([0, 16, 32, 48, 64, 96])
    expect(parts('tensor')).toEqual([0, 0, 32, 48, 48, 96])
    expect(parts('model')).toEqual([0, 0, 0, 0, 0, 96])
  })

  test('parts follow each other, cover all, and cut no tensor', () => {
    fc.assert(
      fc.property(models, fc.integer({ min: 1, max: 5 }), ({ tensors, length }, blocks) => {
        let updated = 0
        for (let arrived = 0; updated < length; ) {
          arrived = Math.min(length, arrived + 16 * blocks)
          const to = updatable('tensor', tensors, arrived, length)
          expect(to).toBeGreaterThanOrEqual(updated)
          expect(to).toBeLessThanOrEqual(arrived)
          for (const { name, start, end } of cut(tensors, updated, to)) {
            const { shape } = tensors.find((tensor) => tensor.name === name)!
            expect([end - start]).toEqual(shape)
          }
          updated = to
        }
      }),
    )
  })
})

test('cut gives every element of every tensor once', () => {
  fc.assert(
    fc.property(models, fc.nat(600), ({ tensors, length }, at) => {
      const middle = Math.min(at, length)
      const owners = Array<string>(length).fill('')
      for (const [from, to] of [[0, middle] as const, [middle, length] as const]) {
        for (const { name, start, end } of cut(tensors, from, to)) {
          expect(end).toBeGreaterThan(start)
          for (let i = from + start; i < from + end; i++) owners[i] += name
        }
      }
      const expected = Array<string>(length).fill('')
      for (const { name, start, end } of tensors) expected.fill(name, start, end)
      expect(owners).toEqual(expected)
    }),
  )
})

test('eachDecay: as few calls as possible, each tensor with its own decay', () => {
  const { tensors, length } = modelOf([4, 5, 20, 6])
  const calls = (mask?: (name: string) => boolean) => {
    const found: (readonly [names: string[], length: number, decay: number])[] = []
    const params = new Float32Array(length)
    const args: UpdateArgs = { params, grads: params, slots: [params], tensors, step: 1, gradScale: 1 }
    eachDecay(args, 0.5, mask, (part, decay) => {
      expect(part.slots[0]!.length).toBe(part.params.length)
      found.push([part.tensors.map(({ name }) => name), part.params.length, decay])
    })
    return found
  }
  const all = ['tensor0', 'tensor1', 'tensor2', 'tensor3']
  expect(calls()).toEqual([[all, 80, 0.5]])
  expect(calls(() => true)).toEqual([[all, 80, 0.5]])
  expect(calls((name) => name === 'tensor2')).toEqual([
    [['tensor0', 'tensor1'], 32, 0],
    [['tensor2'], 32, 0.5],
    [['tensor3'], 16, 0],
  ])
})
