// Symmetric int4 quantisation in whole blocks of 256, each with one float32 scale = max|x| / 7. Byte i of a block holds
// element i in its low half and element i + 128 in its high half. A NaN or an infinity makes all of its block NaN.
import { blockScale } from '../../kernels/assembly/int8'

const BLOCK: usize = 256
const HALF: usize = 128
/** Added to a small float32, it leaves the nearest whole number, the even one of two, in the lowest bits. */
const ROUND: f32 = 12582912 // 1.5 * 2^23

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function quantised(src: usize, divisor: v128): v128 {
  const rounded = f32x4.add(f32x4.div(v128.load(src), divisor), f32x4.splat(ROUND))
  return i32x4.sub(rounded, i32x4.splat(reinterpret<i32>(ROUND)))
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function sixteen(src: usize, scale: v128): v128 {
  const low = i16x8.narrow_i32x4_s(quantised(src, scale), quantised(src + 16, scale))
  const high = i16x8.narrow_i32x4_s(quantised(src + 32, scale), quantised(src + 48, scale))
  return i8x16.narrow_i16x8_s(low, high)
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function quantiseBlock(dst: usize, src: usize, divisor: v128): void {
  for (let i: usize = 0; i < HALF; i += 16) {
    const low = v128.and(sixteen(src + (i << 2), divisor), i8x16.splat(15))
    const high = i8x16.shl(sixteen(src + ((i + HALF) << 2), divisor), 4)
    v128.store(dst + i, v128.or(low, high))
  }
}

/** dst: 128 bytes a block; scales: float32, one per block; src: float32, whole blocks */
export function toInt4(dst: usize, scales: usize, src: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const scale = blockScale(src, BLOCK, 7)
    store<f32>(scales, scale)
    // Codes of a block that is all NaN, or all zero, are zero.
    if (!(scale > 0)) memory.fill(dst, 0, HALF)
    else quantiseBlock(dst, src, f32x4.splat(scale))
    scales += 4
    dst += HALF
    src += BLOCK << 2
  }
}
// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function put(to: usize, q: v128, factor: v128, accumulate: bool): void {
  const value = f32x4.mul(f32x4.convert_i32x4_s(q), factor)
  v128.store(to, accumulate ? f32x4.add(v128.load(to), value) : value)
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function spread(to: usize, q: v128, factor: v128, accumulate: bool): void {
  const low = i16x8.extend_low_i8x16_s(q)
  const high = i16x8.extend_high_i8x16_s(q)
  put(to, i32x4.extend_low_i16x8_s(low), factor, accumulate)
  put(to + 16, i32x4.extend_high_i16x8_s(low), factor, accumulate)
  put(to + 32, i32x4.extend_low_i16x8_s(high), factor, accumulate)
  put(to + 48, i32x4.extend_high_i16x8_s(high), factor, accumulate)
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function restore(dst: usize, src: usize, scales: usize, length: usize, accumulate: bool): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    const factor = f32x4.splat(load<f32>(scales))
    for (let i: usize = 0; i < HALF; i += 16) {
      const pairs = v128.load(src + i)
      spread(dst + (i << 2), i8x16.shr_s(i8x16.shl(pairs, 4), 4), factor, accumulate)
      spread(dst + ((i + HALF) << 2), i8x16.shr_s(pairs, 4), factor, accumulate)
    }
    scales += 4
    src += HALF
    dst += BLOCK << 2
  }
}

/** dst[i] = src[i] * scale of its block */
export function fromInt4(dst: usize, src: usize, scales: usize, length: usize): void {
  restore(dst, src, scales, length, false)
}

/** dst[i] += src[i] * scale of its block */
export function addInt4(dst: usize, src: usize, scales: usize, length: usize): void {
  restore(dst, src, scales, length, true)
}
