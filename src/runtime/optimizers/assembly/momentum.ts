/** velocity = mu * velocity + g;  params -= lr * (nesterov ? g + mu * velocity : velocity), where g = gradScale * grads */
export function momentum(
  params: usize,
  grads: usize,
  velocity: usize,
  lr: f32,
  mu: f32,
  nesterov: bool,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const lrs = f32x4.splat(lr)
  const mus = f32x4.splat(mu)
  const scales = f32x4.splat(gradScale)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const g = f32x4.mul(v128.load(grads + i), scales)
    const v = f32x4.add(f32x4.mul(mus, v128.load(velocity + i)), g)
    v128.store(velocity + i, v)
    const direction = nesterov ? f32x4.add(g, f32x4.mul(mus, v)) : v
    v128.store(params + i, f32x4.sub(v128.load(params + i), f32x4.mul(lrs, direction)))
  }
  for (; i < bytes; i += 4) {
    const g = load<f32>(grads + i) * gradScale
    const v = mu * load<f32>(velocity + i) + g
    store<f32>(velocity + i, v)
    const direction = nesterov ? g + mu * v : v
    store<f32>(params + i, load<f32>(params + i) - lr * direction)
  }
}
