/** One suite over the SIMD kernels and their scalar twins: both must give the bits of the obvious loop. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

const lengths = [0, 1, 3, 4, 5, 17, 1000, 65_537]

describe.each(['simd', 'scalar'])('kernels, LOCKSTEP_KERNELS=%s', (mode) => {
  let kernels: typeof import('../../../src/collectives/kernels/kernels.js')
  let alloc: (floats: number) => Float32Array

  beforeEach(async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', mode)
    vi.resetModules() // the choice is made once per process
    kernels = await import('../../../src/collectives/kernels/kernels.js')
    const { Arena } = await import('../../../src/collectives/kernels/arena.js')
    const arena = new Arena(4_000_000)
    alloc = (floats) => arena.alloc(floats)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  test.each(lengths)('add %i floats', (length) => {
    const [a, b] = [filled(alloc(length), 1), filled(alloc(length), 2)]
    const sums = a.map((x, i) => x + b[i]!)
    kernels.add(a, b)
    expect(a).toEqual(sums)
  })

  test('a part of a buffer, starting anywhere, leaves its neighbours alone', () => {
    fc.assert(
      fc.property(fc.nat(9), fc.nat(9), fc.nat(50), (start, from, count) => {
        const [whole, source] = [filled(alloc(64), 3), filled(alloc(64), 4)]
        const before = whole.slice()
        kernels.add(whole.subarray(start, start + count), source.subarray(from, from + count))
        expect(whole).toEqual(
          before.map((x, i) => (i >= start && i < start + count ? x + source[i - start + from]! : x)),
        )
      }),
    )
  })

  test('infinities and NaN pass through', () => {
    const a = alloc(5)
    a.set([Number.POSITIVE_INFINITY, Number.NaN, 3e38, -0, 1])
    kernels.add(a, a)
    expect([...a]).toEqual([Number.POSITIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY, -0, 2])
  })

  test('operands outside the arena are added too', () => {
    const [inside, outside] = [filled(alloc(7), 1), filled(new Float32Array(7), 2)]
    const sums = inside.map((x, i) => x + outside[i]!)
    kernels.add(inside, outside)
    expect(inside).toEqual(sums)
  })

  test('operands of different lengths are refused before anything is written', () => {
    const [long, short] = [alloc(8), alloc(4)]
    expect(() => kernels.add(long, short)).toThrow(/8, 4 elements/)
  })
})

describe('which operands go to SIMD', () => {
  beforeEach(() => {
    vi.resetModules()
  })
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  async function load() {
    const { simdKernels } = await import('../../../src/collectives/kernels/simd.js')
    const { wasm } = await import('../../../src/collectives/kernels/wasm.generated.js')
    const { Arena } = await import('../../../src/collectives/kernels/arena.js')
    return { simd: simdKernels<object>(wasm), Arena }
  }

  test('those of one arena, and no others', async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', '')
    const { simd, Arena } = await load()
    const [one, two] = [new Arena(1024), new Arena(1024)]
    const a = one.alloc(8)
    expect(simd(a, one.alloc(8))).toBeDefined()
    expect(simd(a.subarray(3))).toBe(simd(a))
    expect(simd(two.alloc(8))).not.toBe(simd(a))
    expect(simd(a, two.alloc(8))).toBeUndefined()
    expect(simd(a, new Float32Array(8))).toBeUndefined()
    expect(simd(new Float32Array(8))).toBeUndefined()
  })

  test('none when scalar is forced', async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', 'scalar')
    const { simd, Arena } = await load()
    expect(simd(new Arena(1024).alloc(8))).toBeUndefined()
  })

  test('any other choice is an error naming it', async () => {
    vi.stubEnv('LOCKSTEP_KERNELS', 'sse2')
    const { simd, Arena } = await load()
    expect(() => simd(new Arena(1024).alloc(8))).toThrow(
      'LOCKSTEP_KERNELS is "sse2": set it to simd or scalar',
    )
  })
})

/** Irregular values over a wide range of exponents, the same for the same seed. */
function filled(view: Float32Array, seed: number): Float32Array {
  for (let i = 0; i < view.length; i++) view[i] = Math.sin(i * 7.3 + seed) * 10 ** ((i % 13) - 6)
  return view
}
