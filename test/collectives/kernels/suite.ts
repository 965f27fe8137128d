/**
 * Loads the kernels afresh, SIMD or scalar, for suites that run on both: the choice is made once per process.
 */
import { afterEach, beforeEach, describe, expect, vi } from 'vitest'

export interface Loaded {
  readonly arithmetic: typeof import('../../../src/collectives/kernels/kernels.js')
  readonly sums: typeof import('../../../src/collectives/kernels/sums.js')
  readonly half: typeof import('../../../src/collectives/kernels/half.js')
  readonly int8: typeof import('../../../src/collectives/kernels/int8.js')
  /** A copy of `data` in the arena, where SIMD can work on it. */
  place<T extends Float32Array | Uint16Array | Int8Array>(data: T): T
}

export const LENGTHS = [0, 1, 3, 4, 7, 8, 17, 256, 257, 1000, 10_007]

/** Runs `suite` on the SIMD kernels and on their scalar twins; `loaded()` is valid inside tests. */
export function onBoth(name: string, suite: (loaded: () => Loaded) => void): void {
  describe.each(['simd', 'scalar'])(`${name}, LOCKSTEP_KERNELS=%s`, (mode) => {
    let now: Loaded
    beforeEach(async () => {
      vi.stubEnv('LOCKSTEP_KERNELS', mode)
      vi.resetModules()
      now = await load()
    })
    afterEach(() => {
      vi.unstubAllEnvs()
    })
    suite(() => now)
  })
}

async function load(): Promise<Loaded> {
  const { Arena } = await import('../../../src/collectives/kernels/arena.js')
  const arena = new Arena(8_000_000)
  return {
    arithmetic: await import('../../../src/collectives/kernels/kernels.js'),
    sums: await import('../../../src/collectives/kernels/sums.js'),
    half: await import('../../../src/collectives/kernels/half.js'),
    int8: await import('../../../src/collectives/kernels/int8.js'),
    place(data) {
      const floats = arena.alloc(Math.ceil(data.byteLength / 4))
      const Type = data.constructor as new (
        buffer: ArrayBufferLike,
        at: number,
        length: number,
      ) => typeof data
      const placed = new Type(floats.buffer, floats.byteOffset, data.length)
      placed.set(data)
      return placed
    },
  }
}

/** Irregular values over a wide range of exponents, the same for the same seed. */
export function filled(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(i * 7.3 + seed) * 10 ** ((i % 13) - 6))
}

/** As `toEqual`, which takes a second for what this does in a microsecond; bits that differ are shown by it. */
export function expectSame(actual: Float32Array, expected: Float32Array): void {
  const [a, b] = [actual, expected].map((x) =>
    Buffer.from(x.buffer as ArrayBuffer, x.byteOffset, x.byteLength),
  )
  if (!a!.equals(b!)) expect(actual).toEqual(expected)
}
