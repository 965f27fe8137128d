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

/** Selects from one tensor after the other, as long as the first, in parts as they come. */
async function selector(kernels: 'simd' | 'scalar') {
  vi.stubEnv('LOCKSTEP_KERNELS', kernels)
  vi.resetModules()
  const { Selection, roomFor } = await import('../../../src/collectives/compression/select.js')
  const { floatsAndBytes } = await import('../../../src/collectives/compression/room.js')
  return (k: number, ...steps: Float32Array[]): number[][] => {
    const { length } = steps[0]!
    const candidates = roomFor(length, k)
    const { floats, bytes } = floatsAndBytes([length, candidates], [4 * candidates, 4 * 2048])
    const [positions, counts] = bytes.map(
      ({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length / 4),
    )
    const [tensor, values] = floats as [Float32Array, Float32Array]
    const selection = new Selection({ values, positions: positions!, counts: counts! })
    return steps.map((step) => {
      tensor.set(step)
      selection.begin(length, k)
      for (let at = 0; at < length; at += 999) selection.look(tensor.subarray(at, at + 999), at)
      const picks = selection.largest(tensor, k)
      expect([...picks.values]).toEqual([...picks.positions].map((position) => step[position]))
      return [...picks.positions]
    })
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
    expect(select(k, values)).toEqual([sorted(values, k)])
  })

  test('step after step, as magnitudes stay, grow, fall, come together and vanish', async () => {
    const select = await selector(kernels)
    const steps: Float32Array[] = [1, 1.02, 0.98, 3, 0.1, 0.099, 0, 1].map((scale, i) =>
      filled(50_000, 4 + i).map((x) => scale * x),
    )
    steps.push(new Float32Array(50_000).fill(1), filled(50_000, 2), filled(50_000, 2))
    expect(select(500, ...steps)).toEqual(steps.map((values) => sorted(values, 500)))
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
          const wanted = sorted(values, k)
          expect(wanted.length).toBe(k)
          expect(select(k, values, values)).toEqual([wanted, wanted])
        },
      ),
      { numRuns: 100 },
    )
    expect(select(2000, new Float32Array(200_000))).toEqual([Array.from({ length: 2000 }, (_, i) => i)])
    const bunched = filled(200_000, 3).map((x, i) => (i < 64 || i > 130_000 ? x : 0))
    expect(select(2000, bunched, bunched)).toEqual([sorted(bunched, 2000), sorted(bunched, 2000)])
    // Every sampled element is large, the others are not.
    const deceiving = Float32Array.from({ length: 200_000 }, (_, i) => (i % 64 === 0 ? 1 : 1e-3))
    expect(select(10_000, deceiving)).toEqual([sorted(deceiving, 10_000)])
  })
})
