/** values = values * scale, limited to [-limit, limit]; NaN stays NaN */
export function clamp(values: usize, scale: f32, limit: f32, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const scales = f32x4.splat(scale)
  const low = f32x4.splat(-limit)
  const high = f32x4.splat(limit)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const x = f32x4.mul(v128.load(values + i), scales)
    v128.store(values + i, f32x4.min(f32x4.max(x, low), high))
  }
  for (; i < bytes; i += 4) {
    store<f32>(values + i, min<f32>(max<f32>(load<f32>(values + i) * scale, -limit), limit))
  }
}
