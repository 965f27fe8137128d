/**
 * s = alpha * s + (1 - alpha) * g * g;  if centered: u = alpha * u + (1 - alpha) * g;
 * d = g / (sqrt(s - (centered ? u * u : 0) + rootEpsilon) + epsilon);  if moving: d = v = mu * v + d;
 * params -= rate * d, where g = gradScale * grads + weightDecay * params.
 * `mean` is used only if centered, `velocity` only if moving.
 */
export function rmsprop(
  params: usize,
  grads: usize,
  square: usize,
  mean: usize,
  velocity: usize,
  centered: bool,
  moving: bool,
  rate: f32,
  alpha: f32,
  oneMinusAlpha: f32,
  mu: f32,
  rootEpsilon: f32,
  epsilon: f32,
  weightDecay: f32,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const rates = f32x4.splat(rate)
  const a = f32x4.splat(alpha)
  const c = f32x4.splat(oneMinusAlpha)
  const mus = f32x4.splat(mu)
  const rootEpsilons = f32x4.splat(rootEpsilon)
  const epsilons = f32x4.splat(epsilon)
  const decays = f32x4.splat(weightDecay)
  const scales = f32x4.splat(gradScale)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const p = v128.load(params + i)
    const g = f32x4.add(f32x4.mul(v128.load(grads + i), scales), f32x4.mul(decays, p))
    let variance = f32x4.add(f32x4.mul(a, v128.load(square + i)), f32x4.mul(f32x4.mul(c, g), g))
    v128.store(square + i, variance)
    if (centered) {
      const u = f32x4.add(f32x4.mul(a, v128.load(mean + i)), f32x4.mul(c, g))
      v128.store(mean + i, u)
      variance = f32x4.sub(variance, f32x4.mul(u, u))
    }
    let direction = f32x4.div(g, f32x4.add(f32x4.sqrt(f32x4.add(variance, rootEpsilons)), epsilons))
    if (moving) {
      direction = f32x4.add(f32x4.mul(mus, v128.load(velocity + i)), direction)
      v128.store(velocity + i, direction)
    }
    v128.store(params + i, f32x4.sub(p, f32x4.mul(rates, direction)))
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    const g = load<f32>(grads + i) * gradScale + weightDecay * p
    let variance = alpha * load<f32>(square + i) + oneMinusAlpha * g * g
    store<f32>(square + i, variance)
    if (centered) {
      const u = alpha * load<f32>(mean + i) + oneMinusAlpha * g
      store<f32>(mean + i, u)
      variance -= u * u
    }
    let direction = g / (sqrt(variance + rootEpsilon) + epsilon)
    if (moving) {
      direction = mu * load<f32>(velocity + i) + direction
      store<f32>(velocity + i, direction)
    }
    store<f32>(params + i, p - rate * direction)
  }
}
