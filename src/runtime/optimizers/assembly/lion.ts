/**
 * params -= lr * sign(beta1 * m + (1 - beta1) * g) + decay * params;  m = beta2 * m + (1 - beta2) * g,
 * where g = gradScale * grads. The sign of 0 is 0, that of NaN is NaN: a broken gradient must not go unseen.
 */
export function lion(
  params: usize,
  grads: usize,
  moment: usize,
  beta1: f32,
  oneMinusBeta1: f32,
  beta2: f32,
  oneMinusBeta2: f32,
  lr: f32,
  decay: f32,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const b1 = f32x4.splat(beta1)
  const c1 = f32x4.splat(oneMinusBeta1)
  const b2 = f32x4.splat(beta2)
  const c2 = f32x4.splat(oneMinusBeta2)
  const lrs = f32x4.splat(lr)
  const decays = f32x4.splat(decay)
  const scales = f32x4.splat(gradScale)
  const zeros = f32x4.splat(0)
  const ones = f32x4.splat(1)
  const signBits = i32x4.splat(i32.MIN_VALUE)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const p = v128.load(params + i)
    const g = f32x4.mul(v128.load(grads + i), scales)
    const m = v128.load(moment + i)
    const c = f32x4.add(f32x4.mul(b1, m), f32x4.mul(c1, g))
    const one = v128.or(ones, v128.and(c, signBits))
    const sign = v128.bitselect(one, c, f32x4.gt(f32x4.abs(c), zeros))
    v128.store(moment + i, f32x4.add(f32x4.mul(b2, m), f32x4.mul(c2, g)))
    v128.store(params + i, f32x4.sub(p, f32x4.add(f32x4.mul(lrs, sign), f32x4.mul(decays, p))))
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    const g = load<f32>(grads + i) * gradScale
    const m = load<f32>(moment + i)
    const c = beta1 * m + oneMinusBeta1 * g
    const sign: f32 = c > 0 ? 1 : c < 0 ? -1 : c
    store<f32>(moment + i, beta2 * m + oneMinusBeta2 * g)
    store<f32>(params + i, p - (lr * sign + decay * p))
  }
}
