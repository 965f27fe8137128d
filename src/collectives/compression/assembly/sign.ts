// One bit an element in whole blocks of 1024, each with one float32 scale, the mean of |x|: values are ±scale. Bit i of a
// block, least significant first, is set where element i is negative. A NaN or an infinity becomes the scale's.

const BLOCK: usize = 1024

/** dst: 128 bytes a block; scales: float32, one per block; src: float32, whole blocks */
export function toSign(dst: usize, scales: usize, src: usize, length: usize): void {
  for (let start: usize = 0; start < length; start += BLOCK) {
    let sums = f32x4.splat(0)
    for (let i: usize = 0; i < BLOCK; i += 8) {
      const a = v128.load(src + (i << 2))
      const b = v128.load(src + (i << 2), 16)
      sums = f32x4.add(f32x4.add(sums, f32x4.abs(a)), f32x4.abs(b))
      store<u8>(dst + (i >> 3), <u8>(i32x4.bitmask(a) | (i32x4.bitmask(b) << 4)))
    }
    const low = f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1)
    const high = f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3)
    store<f32>(scales, (low + high) / <f32>BLOCK)
    scales += 4
    dst += BLOCK >> 3
    src += BLOCK << 2
  }
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function signed(bits: v128, lanes: v128, scale: v128): v128 {
  const negative = i32x4.eq(v128.and(bits, lanes), lanes)
  return v128.xor(scale, i32x4.shl(negative, 31))
}

// @ts-ignore: a decorator that only AssemblyScript knows
@inline
function restore(dst: usize, src: usize, scales: usize, length: usize, accumulate: bool): void {
  const low = i32x4(1, 2, 4, 8)
  const high = i32x4(16, 32, 64, 128)
  for (let start: usize = 0; start < length; start += BLOCK) {
    const scale = f32x4.splat(load<f32>(scales))
    for (let i: usize = 0; i < BLOCK; i += 8) {
      const bits = i32x4.splat(load<u8>(src + (i >> 3)))
      const to = dst + (i << 2)
      const a = signed(bits, low, scale)
      const b = signed(bits, high, scale)
      v128.store(to, accumulate ? f32x4.add(v128.load(to), a) : a)
      v128.store(to, accumulate ? f32x4.add(v128.load(to, 16), b) : b, 16)
    }
    scales += 4
    src += BLOCK >> 3
    dst += BLOCK << 2
  }
}

/** dst[i] = ±scale of its block */
export function fromSign(dst: usize, src: usize, scales: usize, length: usize): void {
  restore(dst, src, scales, length, false)
}

/** dst[i] += ±scale of its block */
export function addSign(dst: usize, src: usize, scales: usize, length: usize): void {
  restore(dst, src, scales, length, true)
}
