/** Minimum, maximum, product, division and sums of several buffers: the bits of the obvious loop, SIMD and scalar. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { expectSame, filled, LENGTHS, onBoth } from './suite.js'

const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1, -1]

onBoth('reductions', (loaded) => {
  const BINARY = [
    ['minimum', Math.min],
    ['maximum', Math.max],
    ['multiply', (a: number, b: number) => a * b],
  ] as const

  test.each(BINARY)('%s', (name, operation) => {
    const { arithmetic, place } = loaded()
    for (const length of LENGTHS) {
      const [a, b] = [place(filled(length, 1)), place(filled(length, 2))]
      const expected = a.map((x, i) => operation(x, b[i]!))
      arithmetic[name](a, b)
      expectSame(a, expected)
    }
    // Every pair of special values; toEqual tells -0 from 0.
    const [a, b] = [SPECIAL.flatMap((x) => SPECIAL.map(() => x)), SPECIAL.flatMap(() => SPECIAL)]
    const data = place(Float32Array.from(a))
    arithmetic[name](data, place(Float32Array.from(b)))
    expect([...data]).toEqual(a.map((x, i) => operation(x, b[i]!)))
  })

  test('divide, as a mean needs it: the nearest float32 of the quotient', () => {
    const { arithmetic, place } = loaded()
    for (const length of LENGTHS) {
      for (const divisor of [1, 2, 3, 7]) {
        const data = place(filled(length, 3))
        const expected = data.map((x) => x / divisor)
        arithmetic.divide(data, divisor)
        expectSame(data, expected)
      }
    }
  })

  test.each([1, 2, 3, 4, 5, 8])('sums of %i buffers, from the left', (k) => {
    const { sums, place } = loaded()
    for (const length of LENGTHS) {
      const buffers = Array.from({ length: k }, (_, seed) => place(filled(length, seed)))
      const expected = buffers[0]!.map((_, i) =>
        buffers.map((buffer) => buffer[i]!).reduce((sum, x) => Math.fround(sum + x)),
      )
      const dst = place(new Float32Array(length))
      sums.sumInto(dst, buffers)
      expectSame(dst, expected)
      const [copies, others] = [0, 0].map(() => buffers.map((buffer) => place(buffer.slice())))
      sums.sumInto(others![Math.min(1, k - 1)]!, others!)
      expectSame(others![Math.min(1, k - 1)]!, expected)
      sums.sumAll(copies!)
      for (const copy of copies!) expectSame(copy, expected)
    }
  })

  test('parts that start anywhere are summed alike, and their neighbours left alone', () => {
    const { sums, place } = loaded()
    const whole = [1, 2, 3].map((seed) => place(filled(64, seed)))
    fc.assert(
      fc.property(fc.array(fc.nat(9), { minLength: 3, maxLength: 3 }), fc.nat(50), (starts, count) => {
        whole.forEach((buffer, i) => {
          buffer.set(filled(64, i))
        })
        const before = whole.map((buffer) => buffer.slice())
        sums.sumAll(whole.map((buffer, i) => buffer.subarray(starts[i]!, starts[i]! + count)))
        whole.forEach((buffer, k) => {
          const [start] = [starts[k]!]
          const expected = before[k]!.map((x, i) =>
            i < start || i >= start + count
              ? x
              : before.map((b, j) => b[i - start + starts[j]!]!).reduce((sum, y) => Math.fround(sum + y)),
          )
          expectSame(buffer, expected)
        })
      }),
    )
  })

  test('buffers of different lengths are refused before anything is written', () => {
    const { sums, place } = loaded()
    const buffers = [1, 2, 3, 4, 5].map((seed) => place(filled(8, seed)))
    expect(() => sums.sumAll([...buffers, place(filled(4, 1))])).toThrow(/8, 8, 8, 8, 8, 4 elements/)
    expect(buffers[0]).toEqual(filled(8, 1))
  })
})
