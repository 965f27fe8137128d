/** Codecs: as near as their bits allow, NaN kept, and the same bits on SIMD and scalar. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Codec } from '../../../src/collectives/compression/codec.js'
import { expectSame, filled } from '../kernels/suite.js'

const NAMES = ['float32', 'float16', 'bfloat16', 'int8', 'int4', 'sign'] as const
const LENGTHS = [0, 1024, 3072, 10_240]

/** Within what float16 can hold. */
const small = (length: number) => filled(length, 1).map((x) => x / 100)

afterEach(() => {
  vi.unstubAllEnvs()
})

/** Compresses and restores `values` in an arena, with kernels of one kind; also added onto `onto`. */
async function through(name: string, kernels: 'simd' | 'scalar', values: Float32Array) {
  vi.stubEnv('LOCKSTEP_KERNELS', kernels)
  vi.resetModules()
  const { floatsAndBytes } = await import('../../../src/collectives/compression/room.js')
  const { bytesOf } = await import('../../../src/collectives/compression/codec.js')
  const codec = await load(name)
  const { floats, bytes } = floatsAndBytes(
    [values.length, values.length, values.length],
    [bytesOf(codec, values.length)],
  )
  const [source, back, sum] = floats as [Float32Array, Float32Array, Float32Array]
  source.set(values)
  sum.set(filled(values.length, 9))
  codec.compress(bytes[0]!, source)
  codec.decompress(back, bytes[0]!)
  codec.accumulate(sum, bytes[0]!)
  return { codec, codes: bytes[0]!, back, sum }
}

async function load(name: string): Promise<Codec> {
  const file = name.endsWith('float16') ? 'half' : name
  const module = await import(`../../../src/collectives/compression/codecs/${file}.ts`)
  return module[name]
}

/** The largest error that one element of a block may have, from the block's largest magnitude. */
const bound: Record<(typeof NAMES)[number], (most: number) => number> = {
  float32: () => 0,
  float16: (most) => most * 2 ** -11 + 2 ** -25,
  bfloat16: (most) => most * 2 ** -8,
  int8: (most) => most / 127 / 1.99,
  int4: (most) => most / 7 / 1.99,
  sign: (most) => most,
}

describe.each(NAMES)('%s', (name) => {
  test.each(LENGTHS)('%i elements: near, and the same bits on SIMD and scalar', async (length) => {
    const values = small(length)
    const simd = await through(name, 'simd', values)
    const scalar = await through(name, 'scalar', values)
    expect(Buffer.from(simd.codes).equals(Buffer.from(scalar.codes))).toBe(true)
    expectSame(simd.back, scalar.back)
    expectSame(simd.sum, scalar.sum)
    expectSame(
      simd.sum,
      filled(length, 9).map((x, i) => x + simd.back[i]!),
    )
    const { block } = simd.codec
    for (let start = 0; start < length; start += block) {
      const part = values.subarray(start, start + block)
      const most = Math.max(...part.map(Math.abs))
      const errors = part.map((x, i) => Math.abs(x - simd.back[start + i]!))
      expect(Math.max(...errors)).toBeLessThanOrEqual(bound[name](most))
    }
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('%f is not lost', async (bad) => {
    const values = small(2048)
    values[1500] = bad
    for (const kernels of ['simd', 'scalar'] as const) {
      const { back } = await through(name, kernels, values)
      expect(Number.isFinite(back[1500]!)).toBe(false)
      expect(back.subarray(0, 1024).every(Number.isFinite)).toBe(true)
    }
  })
})

test('the bytes of a block', async () => {
  const ratios = await Promise.all(
    NAMES.map(async (name) => {
      const { block, blockBytes } = await load(name)
      return [name, Number(((4 * block) / blockBytes).toFixed(2))]
    }),
  )
  expect(Object.fromEntries(ratios)).toEqual({
    float32: 1,
    float16: 2,
    bfloat16: 2,
    int8: 3.94,
    int4: 7.76,
    sign: 31.03,
  })
})
