/** params -= rate * grads + decay * params */
export function sgd(params: usize, grads: usize, rate: f32, decay: f32, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const rates = f32x4.splat(rate)
  const decays = f32x4.splat(decay)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const p = v128.load(params + i)
    const change = f32x4.add(f32x4.mul(rates, v128.load(grads + i)), f32x4.mul(decays, p))
    v128.store(params + i, f32x4.sub(p, change))
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    store<f32>(params + i, p - (rate * load<f32>(grads + i) + decay * p))
  }
}
