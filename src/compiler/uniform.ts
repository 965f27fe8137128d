/**
 * Uniform random numbers for dropout masks, a pure function of a key: the same key gives the same numbers on every
 * machine, and a run can be resumed at any step without having stored a generator's state.
 */

/**
 * Fills `out` with floats uniform in [0, 1) that depend on `key` (for example seed, rank, step, layer) alone.
 * Generator: SFC32 (Chris Doty-Humphrey, PractRand), seeded by hashing the key with MurmurHash3's finaliser.
 */
export function fillUniform(out: Float32Array, key: readonly number[]): void {
  let a = 0x9e3779b9
  let b = 0x243f6a88
  let c = 0xb7e15162
  let counter = 1
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + t) | 0
    return t
  }
  for (const part of key) {
    a ^= mix(part | 0)
    b ^= mix(Math.floor(part / 2 ** 32) + 1)
    next()
  }
  for (let i = 0; i < 12; i++) next()
  // The upper 24 bits: as many as a float32 can tell apart below 1.
  for (let i = 0; i < out.length; i++) out[i] = (next() >>> 8) * 2 ** -24
}

function mix(n: number): number {
  let h = Math.imul(n ^ (n >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}
