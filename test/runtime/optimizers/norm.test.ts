/** The norm, and clipping by it, where PyTorch's golden values do not reach. */
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { load } from './cases.js'

const norms = () => import('../../../src/runtime/optimizers/norm.js')

describe.each(['simd', 'scalar'])('norm, LOCKSTEP_KERNELS=%s', (mode) => {
  const start = () => {
    vi.stubEnv('LOCKSTEP_KERNELS', mode)
    return load()
  }
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  test('is the square root of the sum of squares, in float64', async () => {
    const { alloc } = await start()
    const { l2Norm } = await norms()
    const buffer = alloc(100)
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 100 }),
        (numbers) => {
          const values = buffer.subarray(0, numbers.length)
          values.set(numbers)
          const expected = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0))
          expect(Math.abs(l2Norm(values) - expected)).toBeLessThanOrEqual(1e-14 * expected)
        },
      ),
    )
  })

  test('neither overflows nor vanishes where float32 would', async () => {
    const { alloc } = await start()
    const { l2Norm } = await norms()
    for (const size of [3e38, 1e-44]) {
      const values = alloc(16).fill(size)
      expect(l2Norm(values)).toBe(4 * Math.fround(size))
    }
  })

  test('clipping leaves everything as it was when a gradient is not finite', async () => {
    const { optimizers, alloc } = await start()
    const optimizer = optimizers.clipByGlobalNorm(optimizers.sgd(0.1), 1)
    for (const [broken, shown] of [
      [Number.NaN, 'NaN'],
      [Number.NEGATIVE_INFINITY, 'Infinity'],
    ] as const) {
      const args = {
        params: alloc(9).fill(1),
        grads: alloc(9),
        slots: [],
        tensors: [],
        step: 3,
        gradScale: 1,
      }
      args.grads[8] = broken
      expect(() => optimizer.update(args)).toThrow(
        expect.objectContaining({
          name: 'LockstepError',
          message: expect.stringMatching(
            new RegExp(
              `^clipByGlobalNorm: the gradient norm of step 3 is ${shown}: [^\n]*as before this step$`,
            ),
          ),
        }),
      )
      expect([...args.params]).toEqual(Array(9).fill(1))
    }
  })
})

test('the same bits from SIMD and scalar, whatever the length', async () => {
  const { alloc } = await load()
  const { l2Norm } = await norms()
  for (let length = 0; length < 40; length++) {
    const values = alloc(length)
    for (let i = 0; i < length; i++) values[i] = Math.sin(i) * 10 ** ((i % 13) - 6)
    expect(l2Norm(values)).toBe(l2Norm(Float32Array.from(values)))
  }
})

test('clippings nest, and keep name, state and the widest need', async () => {
  const { optimizers } = await load()
  const { adam, clipByGlobalNorm, clipByValue, lamb } = optimizers
  const both = clipByValue(clipByGlobalNorm(adam(0.1), 5), 1)
  expect(both).toMatchObject({ name: 'adam', slots: ['m', 'v'], granularity: 'model' })
  expect(both.hyper).toMatchObject({ lr: 0.1, clipByGlobalNorm: 5, clipByValue: 1 })
  expect(clipByValue(lamb(0.1), 1).granularity).toBe('tensor')
})
