// Symmetric int8 quantisation in blocks of 256, each with one float32 scale = max|x| / 127; values x = q * scale.
// A NaN or an infinity makes its block's scale NaN, and so every value of the block: it is not lost.

const BLOCK: usize = 256
const MAGNITUDE: i32 = 0x7fffffff
/** Added to a small float32, it leaves the nearest whole number, the even one of two, in the lowest bits. */
const ROUND: f32 = 12582912 // 1.5 * 2^23

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function quantised(x: v128, divisor: v128): v128 {
  const rounded = f32x4.add(f32x4.div(x, divisor), f32x4.splat(ROUND))
  return i32x4.sub(rounded, i32x4.splat(reinterpret<i32>(ROUND)))
}

/** The largest magnitude / 127; NaN when one is infinite or NaN. Bits of magnitudes order as magnitudes do. */
export function blockScale(src: usize, length: usize, most: f32): f32 {
  const whole = length & ~7
  const mask = i32x4.splat(MAGNITUDE)
  let a = i32x4.splat(0)
  let b = a
  let i: usize = 0
  for (; i < whole; i += 8) {
    a = i32x4.max_s(a, v128.and(v128.load(src + (i << 2)), mask))
    b = i32x4.max_s(b, v128.and(v128.load(src + (i << 2), 16), mask))
  }
  for (; i < length; i++) a = i32x4.max_s(a, v128.and(v128.load32_splat(src + (i << 2)), mask))
  a = i32x4.max_s(a, b)
  a = i32x4.max_s(a, i8x16.shuffle(a, a, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7))
  a = i32x4.max_s(a, i8x16.shuffle(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11))
  const largest = f32x4.extract_lane(a, 0)
  return largest < Infinity ? largest / most : NaN
}

/** dst: int8, scales: float32, one per block; src: float32 */
export function quantise(dst: usize, scales: usize, src: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const end = min(start + BLOCK, length)
    const scale = blockScale(src + (start << 2), end - start, 127)
    store<f32>(scales, scale)
    scales += 4
    // Codes of a block that is all NaN, or all zero, are zero.
    if (!(scale > 0)) {
      memory.fill(dst + start, 0, end - start)
      continue
    }
    const divisor = f32x4.splat(scale)
    let i = start
    for (; i + 16 <= end; i += 16) {
      const from = src + (i << 2)
      const low = i16x8.narrow_i32x4_s(
        quantised(v128.load(from), divisor),
        quantised(v128.load(from, 16), divisor),
      )
      const high = i16x8.narrow_i32x4_s(
        quantised(v128.load(from, 32), divisor),
        quantised(v128.load(from, 48), divisor),
      )
      v128.store(dst + i, i8x16.narrow_i16x8_s(low, high))
    }
    for (; i < end; i++) {
      const q = i32x4.extract_lane(quantised(v128.load32_splat(src + (i << 2)), divisor), 0)
      store<i8>(dst + i, <i8>max(-128, min(127, q)))
    }
  }
}

/** dst[i] = src[i] * scale of its block; dst: float32, src: int8 */
export function dequantise(dst: usize, src: usize, scales: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const end = min(start + BLOCK, length)
    const scale = load<f32>(scales)
    scales += 4
    const factor = f32x4.splat(scale)
    let i = start
    for (; i + 8 <= end; i += 8) {
      const q = v128.load8x8_s(src + i)
      const to = dst + (i << 2)
      v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(q)), factor))
      v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(q)), factor), 16)
    }
    for (; i < end; i++) store<f32>(dst + (i << 2), <f32>load<i8>(src + i) * scale)
  }
}

/** dst[i] += src[i] * scale of its block; dst: float32, src: int8 */
export function addQuantised(dst: usize, src: usize, scales: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const end = min(start + BLOCK, length)
    const scale = load<f32>(scales)
    scales += 4
    const factor = f32x4.splat(scale)
    let i = start
    for (; i + 8 <= end; i += 8) {
      const q = v128.load8x8_s(src + i)
      const to = dst + (i << 2)
      const low = f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(q)), factor)
      const high = f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(q)), factor)
      v128.store(to, f32x4.add(v128.load(to), low))
      v128.store(to, f32x4.add(v128.load(to, 16), high), 16)
    }
    for (; i < end; i++) {
      const to = dst + (i << 2)
      store<f32>(to, load<f32>(to) + <f32>load<i8>(src + i) * scale)
    }
  }
}
