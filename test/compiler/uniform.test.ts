/** The generator behind dropout masks: a pure function of its key, and uniform. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fillUniform } from '../../src/compiler/uniform.js'

function uniform(count: number, key: readonly number[]): Float32Array {
  const out = new Float32Array(count)
  fillUniform(out, key)
  return out
}

const mean = (xs: ArrayLike<number>) => Array.from(xs).reduce((a, b) => a + b, 0) / xs.length

const correlation = (a: Float32Array, b: Float32Array) =>
  mean(a.map((x, i) => (x - 0.5) * (b[i]! - 0.5))) * 12

test('a key gives the same numbers everywhere', () => {
  // Golden: a checkpoint resumed by another release must draw the same masks.
  expect([...uniform(4, [7, 0, 1, 0])]).toMatchInlineSnapshot(`
    [
      0.4425979256629944,
      0.9612022638320923,
      0.9559581279754639,
      0.8401850461959839,
    ]
  `)
  expect(uniform(100, [1, 2, 3])).toEqual(uniform(100, [1, 2, 3]))
})

test('a longer draw begins with the shorter one', () => {
  expect(uniform(100, [5]).subarray(0, 10)).toEqual(uniform(10, [5]))
})

test('mean, variance and range are those of the uniform distribution', () => {
  const xs = uniform(200_000, [42, 1, 1000])
  expect(Math.min(...xs.subarray(0, 100_000))).toBeGreaterThanOrEqual(0)
  expect(xs.every((x) => x >= 0 && x < 1)).toBe(true)
  // Five standard errors: 1 / sqrt(12 n) and 1 / sqrt(180 n).
  expect(Math.abs(mean(xs) - 1 / 2)).toBeLessThan(5 / Math.sqrt(12 * xs.length))
  expect(Math.abs(mean(xs.map((x) => (x - 0.5) ** 2)) - 1 / 12)).toBeLessThan(5 / Math.sqrt(180 * xs.length))
})

test('all of the range is used evenly', () => {
  const bins = new Int32Array(256)
  const xs = uniform(256_000, [3, 3, 3])
  for (const x of xs) bins[Math.floor(x * 256)]!++
  // Chi-square with 255 degrees of freedom: mean 255, standard deviation 22.6.
  const chiSquare = bins.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0)
  expect(chiSquare).toBeLessThan(255 + 5 * 22.6)
  expect(chiSquare).toBeGreaterThan(255 - 5 * 22.6)
})

test('neighbouring numbers are not correlated', () => {
  const xs = uniform(100_001, [9])
  expect(Math.abs(correlation(xs.subarray(0, 100_000), xs.subarray(1)))).toBeLessThan(5 / Math.sqrt(100_000))
})

test('keys that differ in one component give unrelated numbers', () => {
  const key = [11, 2, 345, 0]
  const n = 20_000
  const base = uniform(n, key)
  for (let at = 0; at < key.length; at++) {
    for (const by of [1, -1, 2, 256, 65_536, 2 ** 31, 2 ** 32, 2 ** 40]) {
      const other = uniform(n, key.with(at, key[at]! + by))
      expect(Math.abs(correlation(base, other)), `component ${at} by ${by}`).toBeLessThan(5 / Math.sqrt(n))
    }
  }
})

test('the first number is uniform over steps, ranks and seeds', () => {
  for (let at = 0; at < 4; at++) {
    const firsts = Float32Array.from({ length: 20_000 }, (_, i) => uniform(1, [0, 0, 0, 0].with(at, i))[0]!)
    expect(Math.abs(mean(firsts) - 1 / 2)).toBeLessThan(5 / Math.sqrt(12 * firsts.length))
    expect(Math.abs(correlation(firsts.subarray(1), firsts.subarray(0, -1)))).toBeLessThan(
      5 / Math.sqrt(20_000),
    )
  }
})

test('different keys, different numbers', () =>
  fc.assert(
    fc.property(
      fc.array(fc.maxSafeNat(), { maxLength: 5 }),
      fc.array(fc.maxSafeNat(), { maxLength: 5 }),
      (a, b) => {
        fc.pre(`${a}` !== `${b}`)
        expect(uniform(4, a)).not.toEqual(uniform(4, b))
      },
    ),
    { numRuns: 1000 },
  ))

test('a key is not confused with one that has a zero more', () => {
  expect(uniform(4, [])).not.toEqual(uniform(4, [0]))
  expect(uniform(4, [1])).not.toEqual(uniform(4, [1, 0]))
  expect(uniform(4, [0, 1])).not.toEqual(uniform(4, [1, 0]))
})
