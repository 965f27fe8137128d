/**
 * velocity = mu * velocity + g;  params -= lr * (nesterov ? g + mu * velocity : velocity),
 * where g = gradScale * grads + weightDecay * params
 */
export function momentum(
  params: usize,
  grads: usize,
  velocity: usize,
  lr: f32,
  mu: f32,
  nesterov: bool,
  weightDecay: f32,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const lrs = f32x4.splat(lr)
  const mus = f32x4.splat(mu)
  const decays = f32x4.splat(weightDecay)
  const scales = f32x4.splat(gradScale)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const p = v128.load(params + i)
    const g = f32x4.add(f32x4.mul(v128.load(grads + i), scales), f32x4.mul(decays, p))
    const v = f32x4.add(f32x4.mul(mus, v128.load(velocity + i)), g)
    v128.store(velocity + i, v)
    const direction = nesterov ? f32x4.add(g, f32x4.mul(mus, v)) : v
    v128.store(params + i, f32x4.sub(p, f32x4.mul(lrs, direction)))
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    const g = load<f32>(grads + i) * gradScale + weightDecay * p
    const v = mu * load<f32>(velocity + i) + g
    store<f32>(velocity + i, v)
    const direction = nesterov ? g + mu * v : v
    store<f32>(params + i, p - lr * direction)
  }
}
