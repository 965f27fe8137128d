/** Numbers that look random and are the same on every rank: the finaliser of MurmurHash3 over two integers. */

/** A whole number from 0 to 2^32 - 1. */
export function hash(a: number, b: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ b
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
