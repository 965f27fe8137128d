/** One suite over the SIMD kernels and their scalar twins: the values of PyTorch, and the bits of each other. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Optimizer } from '../../../src/runtime/optimizers/optimizer.js'
import golden from './golden/optimizers.json' with { type: 'json' }

type Optimizers = typeof import('../../../src/runtime/optimizers/index.js')
type Alloc = (floats: number) => Float32Array

describe.each(['simd', 'scalar'])('optimizers, LOCKSTEP_KERNELS=%s', (mode) => {
  let optimizers: Optimizers
  let alloc: Alloc

  beforeEach(async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', mode)
    vi.resetModules() // the choice is made once per process
    optimizers = await import('../../../src/runtime/optimizers/index.js')
    const { Arena } = await import('../../../src/collectives/kernels/arena.js')
    const arena = new Arena(1_000_000)
    alloc = (floats) => arena.alloc(floats)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  test.each(golden.cases)(
    '$name $hyper follows PyTorch for 100 steps',
    ({ name, hyper, params: expected }) => {
      for (const gradScale of [1, 0.25]) {
        const optimizer = make(optimizers, name, hyper)
        const { params, grads, slots } = buffers(optimizer, golden.length, alloc)
        params.forEach((_, i) => {
          params[i] = (i - 11) / 8
        })
        for (let step = 1; step <= 100; step++) {
          grads.forEach((_, i) => {
            grads[i] = (((step * 31 + i * 17) % 101) - 50) / 64 / gradScale
          })
          optimizer.update({ params, grads, slots, step, gradScale })
          const want = (expected as Record<string, number[]>)[step]
          if (want) expect(largestDifference(params, want), `step ${step}`).toBeLessThan(1e-6)
        }
      }
    },
  )

  test.each(['sgd', 'momentum', 'adam'])('%s of a whole model equals that of its parts', (name) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(70), (length, at) => {
        const cut = Math.min(at, length)
        const optimizer = optimizers.optimizerByName(name, 0.1)
        const whole = noise(buffers(optimizer, length, (n) => new Float32Array(n)))
        const parts = noise(buffers(optimizer, length, (n) => new Float32Array(n)))
        for (let step = 1; step <= 3; step++) {
          optimizer.update({ ...whole, step, gradScale: 0.5 })
          for (const [from, to] of [[0, cut] as const, [cut, length] as const]) {
            const part = (view: Float32Array) => view.subarray(from, to)
            const { params, grads, slots } = parts
            optimizer.update({
              params: part(params),
              grads: part(grads),
              slots: slots.map(part),
              step,
              gradScale: 0.5,
            })
          }
        }
        expect(parts).toEqual(whole)
      }),
      { numRuns: 30 },
    )
  })

  test('a state buffer of another length is refused', () => {
    const args = { params: alloc(8), grads: alloc(8), slots: [alloc(8), alloc(4)], step: 1, gradScale: 1 }
    expect(() => optimizers.adam(0.1).update(args)).toThrow(/8, 8, 8, 4 elements/)
  })
})

describe('SIMD and scalar give the same bits', () => {
  test.each([
    ['sgd', {}],
    ['momentum', {}],
    ['momentum', { nesterov: 1 }],
    ['adam', {}],
  ])('%s %o', async (name, hyper) => {
    vi.resetModules()
    const optimizers = await import('../../../src/runtime/optimizers/index.js')
    const { Arena } = await import('../../../src/collectives/kernels/arena.js')
    const optimizer = make(optimizers, name, { lr: 0.01, ...hyper })
    const arena = new Arena(1_000_000)
    const simd = noise(buffers(optimizer, 1003, (floats) => arena.alloc(floats)))
    const scalar = noise(buffers(optimizer, 1003, (floats) => new Float32Array(floats)))
    for (let step = 1; step <= 20; step++) {
      for (const args of [simd, scalar]) optimizer.update({ ...args, step, gradScale: 1 / 3 })
    }
    expect(simd).toEqual(scalar)
  })
})

describe('bad hyper-parameters', async () => {
  const { adam, momentum, optimizerByName, sgd } = await import('../../../src/runtime/optimizers/index.js')

  test.each([
    [() => sgd(-1), 'sgd: lr is -1: expected a finite number >= 0'],
    [() => sgd(Number.NaN), 'sgd: lr is NaN: expected a finite number >= 0'],
    [() => momentum(Number.POSITIVE_INFINITY), 'momentum: lr is Infinity: expected a finite number >= 0'],
    [() => momentum(1, { momentum: 1 }), 'momentum: momentum is 1: expected a number >= 0 and < 1'],
    [() => adam('x' as unknown as number), 'adam: lr is x: expected a finite number >= 0'],
    [() => adam(1, { beta1: 1.5 }), 'adam: beta1 is 1.5: expected a number >= 0 and < 1'],
    [() => adam(1, { beta2: -0.1 }), 'adam: beta2 is -0.1: expected a number >= 0 and < 1'],
    [() => adam(1, { epsilon: Number.NaN }), 'adam: epsilon is NaN: expected a finite number >= 0'],
    [() => optimizerByName('adamw', 1), 'unknown optimizer "adamw": expected sgd, momentum, adam'],
    [
      () => optimizerByName('constructor', 1),
      'unknown optimizer "constructor": expected sgd, momentum, adam',
    ],
    [() => optimizerByName('sgd', -2), 'sgd: lr is -2: expected a finite number >= 0'],
  ])('%s', (call, message) => {
    expect(call).toThrow(expect.objectContaining({ name: 'LockstepError', message }))
  })
})

function make(optimizers: Optimizers, name: string, hyper: Partial<Record<string, number>>): Optimizer {
  const { lr = 0.1, nesterov, ...rest } = hyper
  if (name === 'sgd') return optimizers.sgd(lr)
  if (name === 'momentum') return optimizers.momentum(lr, { ...rest, nesterov: nesterov === 1 })
  return optimizers.adam(lr, rest)
}

function buffers(optimizer: Optimizer, length: number, alloc: Alloc) {
  return { params: alloc(length), grads: alloc(length), slots: optimizer.slots.map(() => alloc(length)) }
}

function noise<T extends ReturnType<typeof buffers>>(args: T): T {
  for (let i = 0; i < args.params.length; i++) {
    args.params[i] = Math.sin(i * 7.3)
    args.grads[i] = Math.cos(i * 3.1) * 10 ** ((i % 9) - 4)
  }
  return args
}

function largestDifference(a: Float32Array, b: readonly number[]): number {
  return Math.max(...b.map((x, i) => Math.abs(x - a[i]!)))
}
