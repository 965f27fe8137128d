/** One suite over the SIMD kernels and their scalar twins: the values of PyTorch, and the bits of each other. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Optimizer } from '../../../src/runtime/optimizers/optimizer.js'
import { partOf } from '../../../src/runtime/optimizers/ranges.js'
import {
  type Alloc,
  buffers,
  fillGrads,
  fillParams,
  isMatrix,
  load,
  type Optimizers,
  variants,
} from './cases.js'
import golden from './golden/optimizers.json' with { type: 'json' }
import { scheduleOf } from './schedule-of.js'

describe.each(['simd', 'scalar'])('optimizers, LOCKSTEP_KERNELS=%s', (mode) => {
  let optimizers: Optimizers
  let alloc: Alloc

  beforeEach(async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', mode)
    ;({ optimizers, alloc } = await load())
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  test.each(golden.cases.map((row) => [title(row), row] as const))(
    '%s follows the reference for 100 steps',
    (_title, row) => {
      for (const gradScale of [1, 0.25]) {
        const optimizer = make(optimizers, row)
        const args = buffers(optimizer, golden.length, alloc)
        args.params.forEach((_, i) => {
          args.params[i] = (i - 11) / 8
        })
        for (let step = 1; step <= 100; step++) {
          args.grads.forEach((_, i) => {
            args.grads[i] = (((step * 31 + i * 17) % 101) - 50) / 64 / gradScale
          })
          optimizer.update({ ...args, step, gradScale })
          const want = (row.params as Record<string, number[]>)[step]
          if (want) expect(largestDifference(args.params, want), `step ${step}`).toBeLessThan(1e-6)
        }
      }
    },
  )

  const elementwise = variants.filter(([name]) => !/lamb|norm|twice/.test(name))
  test.each(elementwise)('%s of a whole model equals that of its parts', (_name, variant) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 70 }), fc.nat(70), (length, at) => {
        const optimizer = variant(optimizers)
        const middle = Math.min(at, length)
        const [whole, parts] = [0, 1].map(() => buffers(optimizer, length, (n) => new Float32Array(n)))
        for (const { params } of [whole!, parts!]) fillParams(params)
        for (let step = 1; step <= 3; step++) {
          for (const { grads } of [whole!, parts!]) fillGrads(grads, step)
          optimizer.update({ ...whole!, step, gradScale: 0.5 })
          const args = { ...parts!, step, gradScale: 0.5 }
          optimizer.update(partOf(args, 0, middle))
          optimizer.update(partOf(args, middle, length))
        }
        expect(parts).toEqual(whole)
      }),
      { numRuns: 20 },
    )
  })

  test('lamb of a whole model equals that of its tensors', () => {
    const optimizer = optimizers.lamb(0.01)
    const [whole, parts] = [0, 1].map(() => buffers(optimizer, 40, alloc))
    for (const { params, grads } of [whole!, parts!]) {
      fillParams(params)
      fillGrads(grads, 1)
    }
    optimizer.update({ ...whole!, step: 1, gradScale: 1 })
    for (const { start, end } of parts!.tensors) {
      optimizer.update(partOf({ ...parts!, step: 1, gradScale: 1 }, start, end))
    }
    expect(parts).toEqual(whole)
  })

  test('lamb steps by lr where the parameters or the direction are zero', () => {
    const optimizer = optimizers.lamb(0.5, { weightDecay: 0 })
    const args = buffers(optimizer, 20, alloc)
    args.params.fill(3, 16)
    args.grads.fill(1, 0, 16)
    optimizer.update({ ...args, step: 1, gradScale: 1 })
    expect([...args.params.subarray(0, 16)].map((p) => Math.round(p * 1e4) / 1e4)).toEqual(
      Array(16).fill(-0.5),
    )
    expect([...args.params.subarray(16)]).toEqual([3, 3, 3, 3])
  })

  test('lion does not hide a NaN', () => {
    const optimizer = optimizers.lion(0.1)
    const args = buffers(optimizer, 9, alloc)
    args.grads.set([Number.NaN, 0, -2, 3, 1e-40, 0, 0, 0, Number.NaN])
    optimizer.update({ ...args, step: 1, gradScale: 1 })
    const [r, nan] = [Math.fround(0.1), Number.NaN]
    expect([...args.params].map((p) => p + 0)).toEqual([nan, 0, r, -r, -r, 0, 0, 0, nan])
  })

  test.each(variants.filter(([name]) => name !== 'clipped by value'))(
    'zero padding stays zero with %s',
    (_name, variant) => {
      const optimizer = variant(optimizers)
      const args = { ...buffers(optimizer, 64, alloc), tensors: [tensor(0, 5), tensor(16, 40)] }
      for (let step = 1; step <= 3; step++) {
        args.grads.fill(0)
        for (const { start, end } of args.tensors) args.grads.fill(step, start, end)
        optimizer.update({ ...args, step, gradScale: 1 })
      }
      expect(args.params[4]).not.toBe(0)
      for (const [from, to] of [[5, 16] as const, [40, 64] as const]) {
        expect([...args.params.subarray(from, to)].every((p) => p === 0)).toBe(true)
      }
    },
  )

  test('a state buffer of another length is refused', () => {
    const args = { ...buffers(optimizers.adam(0.1), 8, alloc), slots: [alloc(8), alloc(4)] }
    expect(() => optimizers.adam(0.1).update({ ...args, step: 1, gradScale: 1 })).toThrow(
      /8, 8, 8, 4 elements/,
    )
  })
})

describe('SIMD and scalar give the same bits', () => {
  test.each(variants)('%s', async (_name, variant) => {
    const { optimizers, alloc } = await load()
    const optimizer = variant(optimizers)
    const [simd, scalar] = [alloc, (n: number) => new Float32Array(n)].map((a) => buffers(optimizer, 1003, a))
    for (const { params } of [simd!, scalar!]) fillParams(params)
    for (let step = 1; step <= 20; step++) {
      for (const args of [simd!, scalar!]) {
        fillGrads(args.grads, step)
        optimizer.update({ ...args, step, gradScale: 1 / 3 })
      }
    }
    expect(simd).toEqual(scalar)
  })
})

type Row = (typeof golden.cases)[number]

function title({ name, lr, options, ...row }: Row): string {
  const clip = 'clip' in row ? `, clip ${JSON.stringify(row.clip)}` : ''
  return `${name} ${JSON.stringify({ lr, ...options })}${'masked' in row ? ', masked' : ''}${clip}`
}

function make(optimizers: Optimizers, row: Row): Optimizer {
  const factory = optimizers[row.name as 'adam']
  const mask = 'masked' in row ? { mask: isMatrix } : {}
  const lr = typeof row.lr === 'number' ? row.lr : scheduleOf(optimizers, row.lr as { schedule: string })
  const optimizer = factory(lr, { ...row.options, ...mask })
  const { norm, value } = ('clip' in row ? row.clip : {}) as { norm?: number; value?: number }
  if (norm !== undefined) return optimizers.clipByGlobalNorm(optimizer, norm)
  return value === undefined ? optimizer : optimizers.clipByValue(optimizer, value)
}

function tensor(start: number, end: number) {
  return { name: `tensor${start}`, shape: [end - start], start, end }
}

function largestDifference(a: Float32Array, b: readonly number[]): number {
  return Math.max(...b.map((x, i) => Math.abs(x - a[i]!)))
}
