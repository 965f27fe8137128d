/** int8 in blocks with a scale each: as near as int8 can be, and the same bits on SIMD and scalar. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { INT8_BLOCK, int8Scales } from '../../../src/collectives/kernels/int8.js'
import { expectSame, filled, LENGTHS, type Loaded, onBoth } from './suite.js'

function quantised({ int8, place }: Loaded, values: Float32Array) {
  const [q, scales] = [new Int8Array(values.length), new Float32Array(int8Scales(values.length))].map(
    (buffer) => place(buffer),
  ) as [Int8Array, Float32Array]
  int8.quantise(q, scales, place(values))
  return { q, scales }
}

onBoth('int8', (loaded) => {
  test.each(LENGTHS)('%i elements come back within half a scale', (length) => {
    const values = filled(length, 1)
    const { q, scales } = quantised(loaded(), values)
    const back = loaded().place(new Float32Array(length))
    loaded().int8.dequantise(back, q, scales)
    for (let block = 0; block < scales.length; block++) {
      const part = values.subarray(block * INT8_BLOCK, (block + 1) * INT8_BLOCK)
      const most = part.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0)
      expect(scales[block]).toBe(Math.fround(most / 127))
      const errors = part.map((x, i) => Math.abs(back[block * INT8_BLOCK + i]! - x))
      expect(Math.max(...errors)).toBeLessThanOrEqual(scales[block]! * 0.50001)
    }
  })

  test('the largest of a block becomes ±127, and ties go to the even number', () => {
    const { q, scales } = quantised(loaded(), Float32Array.of(127, -127, 0.5, 1.5, 2.5, -0.5, -1.5, 0))
    expect([...q]).toEqual([127, -127, 0, 2, 2, -0, -2, 0].map((x) => x + 0))
    expect([...scales]).toEqual([1])
  })

  test('accumulating adds what dequantising gives', () => {
    const { int8, place } = loaded()
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, min: -(2 ** 100), max: 2 ** 100 }), { maxLength: 600 }),
        (list) => {
          const { q, scales } = quantised(loaded(), Float32Array.from(list))
          const [back, sum] = [new Float32Array(list.length), filled(list.length, 2)]
          int8.dequantise(back, q, scales)
          const expected = sum.map((x, i) => x + back[i]!)
          int8.addQuantised(sum, q, scales)
          expectSame(sum, expected)
        },
      ),
      { numRuns: 30 },
    )
    const { q, scales } = quantised(loaded(), filled(1000, 1))
    const [back, sum] = [place(new Float32Array(1000)), place(filled(1000, 2))]
    int8.dequantise(back, q, scales)
    const expected = sum.map((x, i) => x + back[i]!)
    int8.addQuantised(sum, q, scales)
    expectSame(sum, expected)
  })

  test('zeros, the smallest and the largest numbers', () => {
    for (const list of [
      [0, 0, -0],
      [1e-45, 0],
      [3.4e38, -3.4e38, 1],
      [1e-38, 3e-39],
    ]) {
      const { q, scales } = quantised(loaded(), Float32Array.from(list))
      const back = new Float32Array(list.length)
      loaded().int8.dequantise(back, q, scales)
      list.forEach((x, i) => {
        expect(Math.abs(back[i]! - x)).toBeLessThanOrEqual(Math.max(scales[0]! * 0.51, 1e-43))
      })
    }
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])('%f is not lost', (bad) => {
    const values = filled(600, 1)
    values[300] = bad
    const { q, scales } = quantised(loaded(), values)
    const back = new Float32Array(600)
    loaded().int8.dequantise(back, q, scales)
    expect(back.map((x) => (Number.isNaN(x) ? 1 : 0))).toEqual(
      back.map((_, i) => (i >= INT8_BLOCK && i < 2 * INT8_BLOCK ? 1 : 0)),
    )
  })

  test('a wrong number of scales is refused', () => {
    const { int8 } = loaded()
    expect(() => int8.quantise(new Int8Array(257), new Float32Array(1), new Float32Array(257))).toThrow(
      '257 elements have 2 scales, not 1',
    )
  })
})

test('SIMD and scalar give the same bits', async () => {
  const { vi } = await import('vitest')
  const results: Int8Array[] = []
  for (const mode of ['simd', 'scalar']) {
    vi.stubEnv('LOCKSTEP_KERNELS', mode)
    vi.resetModules()
    const { Arena } = await import('../../../src/collectives/kernels/arena.js')
    const { quantise } = await import('../../../src/collectives/kernels/int8.js')
    const arena = new Arena(2 ** 20)
    const source = arena.alloc(10_007)
    source.set(filled(10_007, 5))
    const place = arena.alloc(2600)
    const q = new Int8Array(place.buffer, place.byteOffset, 10_007)
    quantise(q, arena.alloc(int8Scales(10_007)), source)
    results.push(q)
  }
  vi.unstubAllEnvs()
  expect(results[0]).toEqual(results[1])
})
