/** params[i] -= rate * grads[i] */
export function sgd(params: usize, grads: usize, rate: f32, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const rates = f32x4.splat(rate)
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(params + i, f32x4.sub(v128.load(params + i), f32x4.mul(rates, v128.load(grads + i))))
  }
  for (; i < bytes; i += 4) store<f32>(params + i, load<f32>(params + i) - rate * load<f32>(grads + i))
}
