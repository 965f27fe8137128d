// dst[i] = dst[i] (op) src[i] in float32. WebAssembly's min and max return NaN where either is one, as Math.min does.

/** dst[i] += src[i] */
export function add(dst: usize, src: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.add(v128.load(dst + i), v128.load(src + i)))
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, load<f32>(dst + i) + load<f32>(src + i))
}

/** dst[i] = min(dst[i], src[i]) */
export function minimum(dst: usize, src: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.min(v128.load(dst + i), v128.load(src + i)))
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, min(load<f32>(dst + i), load<f32>(src + i)))
}

/** dst[i] = max(dst[i], src[i]) */
export function maximum(dst: usize, src: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.max(v128.load(dst + i), v128.load(src + i)))
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, max(load<f32>(dst + i), load<f32>(src + i)))
}

/** dst[i] *= src[i] */
export function multiply(dst: usize, src: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.mul(v128.load(dst + i), v128.load(src + i)))
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, load<f32>(dst + i) * load<f32>(src + i))
}

/** dst[i] /= divisor */
export function divide(dst: usize, divisor: f32, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const divisors = f32x4.splat(divisor)
  let i: usize = 0
  for (; i < whole; i += 16) v128.store(dst + i, f32x4.div(v128.load(dst + i), divisors))
  for (; i < bytes; i += 4) store<f32>(dst + i, load<f32>(dst + i) / divisor)
}
