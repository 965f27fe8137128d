/** The k largest magnitudes, against sorting them all. */
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { filled } from '../kernels/suite.js'

afterEach(() => {
  vi.unstubAllEnvs()
})

/** Positions of the k largest, ascending; the lower one of two equals. */
function sorted(values: Float32Array, k: number): number[] {
  const rank = (x: number) => (Number.isNaN(x) ? Number.MAX_VALUE : Math.min(Math.abs(x), 1e300))
  return [...values.keys()]
    .sort((a, b) => rank(values[b]!) - rank(values[a]!) || a - b)
    .slice(0, k)
    .sort((a, b) => a - b)
}

async function selector(kernels: 'simd' | 'scalar') {
  vi.stubEnv('LOCKSTEP_KERNELS', kernels)
  vi.resetModules()
  const { largest, roomFor } = await import('../../../src/collectives/compression/select.js')
  const { floatsAndBytes } = await import('../../../src/collectives/compression/room.js')
  return (values: Float32Array, k: number): number[] => {
    const candidates = roomFor(values.length, k)
    const { floats, bytes } = floatsAndBytes([values.length, candidates], [4 * candidates, 4 * 2048])
    floats[0]!.set(values)
    const [positions, counts] = bytes.map(
      ({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length / 4),
    )
    return [...largest(floats[0]!, k, { values: floats[1]!, positions: positions!, counts: counts! })]
  }
}

describe.each(['simd', 'scalar'] as const)('%s', (kernels) => {
  test.each([
    [1, 1],
    [17, 3],
    [1000, 1000],
    [65_537, 655],
    [300_000, 3000],
    [300_000, 30_000],
  ])('of %i elements the largest %i', async (length, k) => {
    const select = await selector(kernels)
    const values = filled(length, 2)
    expect(select(values, k)).toEqual(sorted(values, k))
  })

  test('a few values many times, zeros only, all in one place', async () => {
    const select = await selector(kernels)
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(0, -0, 1, -1, 2, Number.NaN, Number.POSITIVE_INFINITY, 1e-45), {
          minLength: 1,
          maxLength: 300,
        }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (list, share) => {
          const k = Math.max(1, Math.round(share * list.length))
          const values = Float32Array.from(list)
          const picked = select(values, k)
          expect(picked.length).toBe(k)
          expect(picked).toEqual(sorted(values, k))
        },
      ),
      { numRuns: 100 },
    )
    expect(select(new Float32Array(200_000), 2000)).toEqual(Array.from({ length: 2000 }, (_, i) => i))
    const bunched = filled(200_000, 3).map((x, i) => (i < 64 || i > 130_000 ? x : 0))
    expect(select(bunched, 2000)).toEqual(sorted(bunched, 2000))
    // Every sampled element is large, the others are not.
    const deceiving = Float32Array.from({ length: 200_000 }, (_, i) => (i % 64 === 0 ? 1 : 1e-3))
    expect(select(deceiving, 10_000)).toEqual(sorted(deceiving, 10_000))
  })
})
