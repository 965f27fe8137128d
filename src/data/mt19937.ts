/**
 * The Mersenne Twister MT19937, number for number that of torch.Generator on the CPU and of numpy's legacy
 * RandomState. It is the data room's only source of randomness; it must never guard a secret.
 *
 * Matsumoto & Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number
 * generator", ACM TOMACS 8 (1998); seeding as in their mt19937ar.c of 2002.
 */
const N = 624
const M = 397

export class Mt19937 {
  readonly #state = new Uint32Array(N)
  #next = N

  /** Only the seed's low 32 bits count, as in torch; a negative seed counts in two's complement. */
  constructor(seed: number) {
    const state = this.#state
    state[0] = seed
    for (let i = 1; i < N; i++) {
      const previous = state[i - 1]! ^ (state[i - 1]! >>> 30)
      state[i] = Math.imul(1812433253, previous) + i
    }
  }

  /** An integer, uniform over 0 … 2³² − 1. */
  uint32(): number {
    if (this.#next === N) this.#refill()
    let y = this.#state[this.#next++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  /** A multiple of 2⁻³², uniform over [0, 1). */
  uniform(): number {
    return this.uint32() / 0x1_0000_0000
  }

  #refill(): void {
    const state = this.#state
    for (let i = 0; i < N; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff)
      state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.#next = 0
  }
}

/** Above this torch draws 64-bit numbers in another algorithm (`randperm_cpu` in ATen, 2³² / 20). */
export const PERMUTATION_LIMIT = 214_748_364

/**
 * A uniform permutation of 0 … length − 1, the one that `torch.randperm(length, generator=…)` gives on the CPU:
 * Fisher–Yates from the front, with `random() % remaining`. Its bias is below length / 2³².
 * Right for `length` < PERMUTATION_LIMIT, which the caller has checked.
 */
export function randomPermutation(length: number, random: Mt19937): Uint32Array {
  const items = Uint32Array.from({ length }, (_, i) => i)
  for (let i = 0; i < length - 1; i++) {
    const j = i + (random.uint32() % (length - i))
    const moved = items[i]!
    items[i] = items[j]!
    items[j] = moved
  }
  return items
}
