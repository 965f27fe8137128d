// float32 <-> bfloat16 and IEEE float16, rounding to nearest, ties to even; infinities stay, NaN stay NaN.
// float16 after F. Giesen's branch-free conversions (https://gist.github.com/rygorous/2156668).
// A group is 8 elements: two vectors of float32, one of 16-bit numbers. What is left over goes one by one through the
// same formulas, in the first lane of a vector.

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function splat(x: i32): v128 {
  return i32x4.splat(x)
}

// @ts-ignore
@inline
function choose(mask: v128, yes: v128, no: v128): v128 {
  return v128.bitselect(yes, no, mask)
}

// @ts-ignore
@inline
function bfloat16Bits(x: v128): v128 {
  const high = i32x4.shr_u(x, 16)
  const odd = v128.and(high, splat(1))
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(x, splat(0x7fff)), odd), 16)
  // Adding would carry a NaN's payload into the exponent and the sign: it keeps its upper bits and becomes quiet.
  return choose(f32x4.ne(x, x), v128.or(high, splat(0x40)), rounded)
}

// @ts-ignore
@inline
function bfloat16Value(x: v128): v128 {
  return i32x4.shl(x, 16)
}

// @ts-ignore
@inline
function float16Bits(x: v128): v128 {
  const sign = v128.and(x, splat(0x80000000))
  const magnitude = v128.xor(x, sign)
  // Subnormal in float16: adding 0.5 lets the hardware round the mantissa to units of 2^-24.
  const small = i32x4.sub(f32x4.add(magnitude, splat(126 << 23)), splat(126 << 23))
  const odd = v128.and(i32x4.shr_u(magnitude, 13), splat(1))
  const rebiased = i32x4.add(magnitude, splat(((15 - 127) << 23) + 0xfff))
  const normal = i32x4.shr_u(i32x4.add(rebiased, odd), 13)
  // From 2^16 on; what lies between the largest float16 and that rounds to infinity by the carry in `normal`.
  const special = choose(i32x4.gt_s(magnitude, splat(255 << 23)), splat(0x7e00), splat(0x7c00))
  const finite = choose(i32x4.lt_s(magnitude, splat(113 << 23)), small, normal)
  const bits = choose(i32x4.ge_s(magnitude, splat(143 << 23)), special, finite)
  return v128.or(bits, i32x4.shr_u(sign, 16))
}

// @ts-ignore
@inline
function float16Value(x: v128): v128 {
  const shifted = i32x4.shl(v128.and(x, splat(0x7fff)), 13)
  const exponent = v128.and(shifted, splat(0x7c00 << 13))
  const normal = i32x4.add(shifted, splat((127 - 15) << 23))
  const special = i32x4.add(normal, splat((128 - 16) << 23))
  const small = f32x4.sub(i32x4.add(normal, splat(1 << 23)), splat(113 << 23))
  const finite = choose(i32x4.eq(exponent, splat(0)), small, normal)
  const value = choose(i32x4.eq(exponent, splat(0x7c00 << 13)), special, finite)
  return v128.or(value, i32x4.shl(v128.and(x, splat(0x8000)), 16))
}

/** dst: bfloat16, src: float32 */
export function toBfloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const from = src + (i << 2)
    const low = bfloat16Bits(v128.load(from))
    v128.store(dst + (i << 1), i16x8.narrow_i32x4_u(low, bfloat16Bits(v128.load(from, 16))))
  }
  for (; i < length; i++) {
    store<u16>(dst + (i << 1), <u16>i32x4.extract_lane(bfloat16Bits(v128.load32_zero(src + (i << 2))), 0))
  }
}

/** dst: float32, src: bfloat16 */
export function fromBfloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const packed = v128.load(src + (i << 1))
    const to = dst + (i << 2)
    v128.store(to, bfloat16Value(i32x4.extend_low_i16x8_u(packed)))
    v128.store(to, bfloat16Value(i32x4.extend_high_i16x8_u(packed)), 16)
  }
  for (; i < length; i++) {
    store<f32>(dst + (i << 2), f32x4.extract_lane(bfloat16Value(splat(load<u16>(src + (i << 1)))), 0))
  }
}

/** dst[i] += src[i]; dst: float32, src: bfloat16 */
export function addBfloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const packed = v128.load(src + (i << 1))
    const to = dst + (i << 2)
    v128.store(to, f32x4.add(v128.load(to), bfloat16Value(i32x4.extend_low_i16x8_u(packed))))
    v128.store(to, f32x4.add(v128.load(to, 16), bfloat16Value(i32x4.extend_high_i16x8_u(packed))), 16)
  }
  for (; i < length; i++) {
    const to = dst + (i << 2)
    const value = f32x4.extract_lane(bfloat16Value(splat(load<u16>(src + (i << 1)))), 0)
    store<f32>(to, load<f32>(to) + value)
  }
}

/** dst: float16, src: float32 */
export function toFloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const from = src + (i << 2)
    const low = float16Bits(v128.load(from))
    v128.store(dst + (i << 1), i16x8.narrow_i32x4_u(low, float16Bits(v128.load(from, 16))))
  }
  for (; i < length; i++) {
    store<u16>(dst + (i << 1), <u16>i32x4.extract_lane(float16Bits(v128.load32_zero(src + (i << 2))), 0))
  }
}

/** dst: float32, src: float16 */
export function fromFloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const packed = v128.load(src + (i << 1))
    const to = dst + (i << 2)
    v128.store(to, float16Value(i32x4.extend_low_i16x8_u(packed)))
    v128.store(to, float16Value(i32x4.extend_high_i16x8_u(packed)), 16)
  }
  for (; i < length; i++) {
    store<f32>(dst + (i << 2), f32x4.extract_lane(float16Value(splat(load<u16>(src + (i << 1)))), 0))
  }
}

/** dst[i] += src[i]; dst: float32, src: float16 */
export function addFloat16(dst: usize, src: usize, length: usize): void {
  const whole = length & ~7
  let i: usize = 0
  for (; i < whole; i += 8) {
    const packed = v128.load(src + (i << 1))
    const to = dst + (i << 2)
    v128.store(to, f32x4.add(v128.load(to), float16Value(i32x4.extend_low_i16x8_u(packed))))
    v128.store(to, f32x4.add(v128.load(to, 16), float16Value(i32x4.extend_high_i16x8_u(packed))), 16)
  }
  for (; i < length; i++) {
    const to = dst + (i << 2)
    const value = f32x4.extract_lane(float16Value(splat(load<u16>(src + (i << 1)))), 0)
    store<f32>(to, load<f32>(to) + value)
  }
}
