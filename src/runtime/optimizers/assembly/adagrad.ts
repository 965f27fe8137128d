/** sum += g * g;  params -= rate * g / (sqrt(initial + sum) + epsilon), where g = gradScale * grads + weightDecay * params */
export function adagrad(
  params: usize,
  grads: usize,
  sum: usize,
  rate: f32,
  initial: f32,
  epsilon: f32,
  weightDecay: f32,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~15
  const rates = f32x4.splat(rate)
  const initials = f32x4.splat(initial)
  const epsilons = f32x4.splat(epsilon)
  const decays = f32x4.splat(weightDecay)
  const scales = f32x4.splat(gradScale)
  let i: usize = 0
  for (; i < whole; i += 16) {
    const p = v128.load(params + i)
    const g = f32x4.add(f32x4.mul(v128.load(grads + i), scales), f32x4.mul(decays, p))
    const s = f32x4.add(v128.load(sum + i), f32x4.mul(g, g))
    v128.store(sum + i, s)
    const root = f32x4.add(f32x4.sqrt(f32x4.add(initials, s)), epsilons)
    v128.store(params + i, f32x4.sub(p, f32x4.div(f32x4.mul(rates, g), root)))
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    const g = load<f32>(grads + i) * gradScale + weightDecay * p
    const s = load<f32>(sum + i) + g * g
    store<f32>(sum + i, s)
    store<f32>(params + i, p - (rate * g) / (sqrt(initial + s) + epsilon))
  }
}
