// What finds the largest magnitudes. A float's magnitude bits (sign cleared) order as the magnitudes do, NaN above all.

const MAGNITUDE: i32 = 0x7fffffff

/**
 * counts[(bits >> shift) & mask] += 1 for every element whose magnitude bits, shifted right by `prefixShift`, are
 * `prefix`. counts: uint32, mask + 1 of them
 */
export function histogram(
  counts: usize,
  src: usize,
  length: usize,
  shift: i32,
  mask: i32,
  prefix: i32,
  prefixShift: i32,
): void {
  const whole = length & ~3
  const magnitude = i32x4.splat(MAGNITUDE)
  const wanted = i32x4.splat(prefix)
  let i: usize = 0
  for (; i < whole; i += 4) {
    const bits = v128.and(v128.load(src + (i << 2)), magnitude)
    const hits = i32x4.bitmask(i32x4.eq(i32x4.shr_u(bits, prefixShift), wanted))
    if (hits == 0) continue
    if (hits & 1) count(counts, i32x4.extract_lane(bits, 0), shift, mask)
    if (hits & 2) count(counts, i32x4.extract_lane(bits, 1), shift, mask)
    if (hits & 4) count(counts, i32x4.extract_lane(bits, 2), shift, mask)
    if (hits & 8) count(counts, i32x4.extract_lane(bits, 3), shift, mask)
  }
  for (; i < length; i++) {
    const bits = load<i32>(src + (i << 2)) & MAGNITUDE
    if (bits >>> prefixShift == prefix) count(counts, bits, shift, mask)
  }
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function count(counts: usize, bits: i32, shift: i32, mask: i32): void {
  const at = counts + (((bits >>> shift) & mask) << 2)
  store<u32>(at, load<u32>(at) + 1)
}

/**
 * Writes, in ascending order, the positions (counted from `first`) and values of the elements whose magnitude bits are above
 * `threshold`, and of the first `ties` that equal it; stops once `most` are found. positions: uint32, values: float32.
 * @returns how many were found
 */
export function compact(
  positions: usize,
  values: usize,
  src: usize,
  length: usize,
  first: u32,
  threshold: i32,
  ties: i32,
  most: i32,
): i32 {
  const whole = length & ~15
  const mask = i32x4.splat(MAGNITUDE)
  const least = i32x4.splat(threshold)
  let found: i32 = 0
  let i: usize = 0
  for (; i < whole && found < most; i += 16) {
    // Magnitude bits are never negative, so that signed comparisons will do.
    const at = src + (i << 2)
    const a = i32x4.ge_s(v128.and(v128.load(at), mask), least)
    const b = i32x4.ge_s(v128.and(v128.load(at, 16), mask), least)
    const c = i32x4.ge_s(v128.and(v128.load(at, 32), mask), least)
    const d = i32x4.ge_s(v128.and(v128.load(at, 48), mask), least)
    if (!v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) continue
    const low = i32x4.bitmask(a) | (i32x4.bitmask(b) << 4)
    let hits = low | (i32x4.bitmask(c) << 8) | (i32x4.bitmask(d) << 12)
    for (; hits != 0 && found < most; hits &= hits - 1) {
      const j: usize = i + <usize>ctz(hits)
      if ((load<i32>(src + (j << 2)) & MAGNITUDE) == threshold && --ties < 0) continue
      store<u32>(positions + (found << 2), first + <u32>j)
      store<u32>(values + (found << 2), load<u32>(src + (j << 2)))
      found++
    }
  }
  for (; i < length && found < most; i++) {
    const each = load<i32>(src + (i << 2)) & MAGNITUDE
    if (each < threshold || (each == threshold && --ties < 0)) continue
    store<u32>(positions + (found << 2), first + <u32>i)
    store<u32>(values + (found << 2), load<u32>(src + (i << 2)))
    found++
  }
  return found
}
