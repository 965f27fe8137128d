/**
 * m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g * g;
 * params = keep * params - rate * m / (sqrt(v) + epsilon), where g = gradScale * grads + weightDecay * params;
 * the bias corrections are already inside `rate` and `epsilon`.
 */
export function adam(
  params: usize,
  grads: usize,
  firstMoment: usize,
  secondMoment: usize,
  beta1: f32,
  oneMinusBeta1: f32,
  beta2: f32,
  oneMinusBeta2: f32,
  rate: f32,
  epsilon: f32,
  weightDecay: f32,
  keep: f32,
  gradScale: f32,
  length: usize,
): void {
  const bytes = length << 2
  const whole = bytes & ~63
  const b1 = f32x4.splat(beta1)
  const c1 = f32x4.splat(oneMinusBeta1)
  const b2 = f32x4.splat(beta2)
  const c2 = f32x4.splat(oneMinusBeta2)
  const rates = f32x4.splat(rate)
  const epsilons = f32x4.splat(epsilon)
  const weightDecays = f32x4.splat(weightDecay)
  const keeps = f32x4.splat(keep)
  const scales = f32x4.splat(gradScale)
  let i: usize = 0
  // Four vectors a turn, at constant offsets: a fifth less time than one. It is then as fast as memory is.
  for (; i < whole; i += 64) {
    const p0 = v128.load(params + i)
    const g0 = f32x4.add(f32x4.mul(v128.load(grads + i), scales), f32x4.mul(weightDecays, p0))
    const m0 = f32x4.add(f32x4.mul(b1, v128.load(firstMoment + i)), f32x4.mul(c1, g0))
    const v0 = f32x4.add(f32x4.mul(b2, v128.load(secondMoment + i)), f32x4.mul(f32x4.mul(c2, g0), g0))
    v128.store(firstMoment + i, m0)
    v128.store(secondMoment + i, v0)
    const change0 = f32x4.div(f32x4.mul(rates, m0), f32x4.add(f32x4.sqrt(v0), epsilons))
    v128.store(params + i, f32x4.sub(f32x4.mul(keeps, p0), change0))

    const p1 = v128.load(params + i, 16)
    const g1 = f32x4.add(f32x4.mul(v128.load(grads + i, 16), scales), f32x4.mul(weightDecays, p1))
    const m1 = f32x4.add(f32x4.mul(b1, v128.load(firstMoment + i, 16)), f32x4.mul(c1, g1))
    const v1 = f32x4.add(f32x4.mul(b2, v128.load(secondMoment + i, 16)), f32x4.mul(f32x4.mul(c2, g1), g1))
    v128.store(firstMoment + i, m1, 16)
    v128.store(secondMoment + i, v1, 16)
    const change1 = f32x4.div(f32x4.mul(rates, m1), f32x4.add(f32x4.sqrt(v1), epsilons))
    v128.store(params + i, f32x4.sub(f32x4.mul(keeps, p1), change1), 16)

    const p2 = v128.load(params + i, 32)
    const g2 = f32x4.add(f32x4.mul(v128.load(grads + i, 32), scales), f32x4.mul(weightDecays, p2))
    const m2 = f32x4.add(f32x4.mul(b1, v128.load(firstMoment + i, 32)), f32x4.mul(c1, g2))
    const v2 = f32x4.add(f32x4.mul(b2, v128.load(secondMoment + i, 32)), f32x4.mul(f32x4.mul(c2, g2), g2))
    v128.store(firstMoment + i, m2, 32)
    v128.store(secondMoment + i, v2, 32)
    const change2 = f32x4.div(f32x4.mul(rates, m2), f32x4.add(f32x4.sqrt(v2), epsilons))
    v128.store(params + i, f32x4.sub(f32x4.mul(keeps, p2), change2), 32)

    const p3 = v128.load(params + i, 48)
    const g3 = f32x4.add(f32x4.mul(v128.load(grads + i, 48), scales), f32x4.mul(weightDecays, p3))
    const m3 = f32x4.add(f32x4.mul(b1, v128.load(firstMoment + i, 48)), f32x4.mul(c1, g3))
    const v3 = f32x4.add(f32x4.mul(b2, v128.load(secondMoment + i, 48)), f32x4.mul(f32x4.mul(c2, g3), g3))
    v128.store(firstMoment + i, m3, 48)
    v128.store(secondMoment + i, v3, 48)
    const change3 = f32x4.div(f32x4.mul(rates, m3), f32x4.add(f32x4.sqrt(v3), epsilons))
    v128.store(params + i, f32x4.sub(f32x4.mul(keeps, p3), change3), 48)
  }
  for (; i < bytes; i += 4) {
    const p = load<f32>(params + i)
    const g = load<f32>(grads + i) * gradScale + weightDecay * p
    const m = beta1 * load<f32>(firstMoment + i) + oneMinusBeta1 * g
    const v = beta2 * load<f32>(secondMoment + i) + oneMinusBeta2 * g * g
    store<f32>(firstMoment + i, m)
    store<f32>(secondMoment + i, v)
    store<f32>(params + i, keep * p - (rate * m) / (sqrt(v) + epsilon))
  }
}
