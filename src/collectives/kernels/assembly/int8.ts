// Symmetric int8 quantisation in blocks of 256, each with one float32 scale = max|x| / 127; values x = q * scale.
// A NaN or an infinity makes its block's scale one, and so every value of the block NaN: it is not lost.

const BLOCK: usize = 256

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function quantised(x: v128, scale: v128): v128 {
  // Saturating: NaN (0 / 0, or from a NaN scale) becomes 0.
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.div(x, scale)))
}

function largest(src: usize, length: usize): f32 {
  const whole = length & ~3
  let most = f32x4.splat(0)
  let i: usize = 0
  for (; i < whole; i += 4) most = f32x4.max(most, f32x4.abs(v128.load(src + (i << 2))))
  for (; i < length; i++) most = f32x4.max(most, f32x4.abs(f32x4.splat(load<f32>(src + (i << 2)))))
  const low = max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1))
  return max(low, max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)))
}

/** dst: int8, scales: float32, one per block; src: float32 */
export function quantise(dst: usize, scales: usize, src: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const end = min(start + BLOCK, length)
    const scale = largest(src + (start << 2), end - start) / 127
    store<f32>(scales, scale)
    scales += 4
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
      const x = f32x4.splat(load<f32>(src + (i << 2)))
      const q = i32x4.extract_lane(quantised(x, divisor), 0)
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
