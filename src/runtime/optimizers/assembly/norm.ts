/** The sum of squares in float64: eight running sums, added pairwise at the end, then what is left over one by one. */
export function sumOfSquares(values: usize, length: usize): f64 {
  const end = values + (length << 2)
  const whole = values + ((length & ~7) << 2)
  let a = f64x2.splat(0)
  let b = f64x2.splat(0)
  let c = f64x2.splat(0)
  let d = f64x2.splat(0)
  let at = values
  for (; at < whole; at += 32) {
    const v = f64x2.promote_low_f32x4(v128.load_zero<f64>(at))
    const w = f64x2.promote_low_f32x4(v128.load_zero<f64>(at, 8))
    const x = f64x2.promote_low_f32x4(v128.load_zero<f64>(at, 16))
    const y = f64x2.promote_low_f32x4(v128.load_zero<f64>(at, 24))
    a = f64x2.add(a, f64x2.mul(v, v))
    b = f64x2.add(b, f64x2.mul(w, w))
    c = f64x2.add(c, f64x2.mul(x, x))
    d = f64x2.add(d, f64x2.mul(y, y))
  }
  const pairs = f64x2.add(f64x2.add(a, b), f64x2.add(c, d))
  let total = f64x2.extract_lane(pairs, 0) + f64x2.extract_lane(pairs, 1)
  for (; at < end; at += 4) {
    const x = <f64>load<f32>(at)
    total += x * x
  }
  return total
}
