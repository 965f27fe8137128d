/** dst = a - b, all float32 */
export function subtract(dst: usize, a: usize, b: usize, length: usize): void {
  const whole = length & ~3
  let i: usize = 0
  for (; i < whole; i += 4) {
    const at = i << 2
    v128.store(dst + at, f32x4.sub(v128.load(a + at), v128.load(b + at)))
  }
  for (; i < length; i++) store<f32>(dst + (i << 2), load<f32>(a + (i << 2)) - load<f32>(b + (i << 2)))
}

/** u = momentum * u + g, then v += u; all float32 */
export function accelerate(u: usize, v: usize, g: usize, momentum: f32, length: usize): void {
  const whole = length & ~3
  const factor = f32x4.splat(momentum)
  let i: usize = 0
  for (; i < whole; i += 4) {
    const at = i << 2
    const velocity = f32x4.add(f32x4.mul(factor, v128.load(u + at)), v128.load(g + at))
    v128.store(u + at, velocity)
    v128.store(v + at, f32x4.add(v128.load(v + at), velocity))
  }
  for (; i < length; i++) {
    const at = i << 2
    const velocity = momentum * load<f32>(u + at) + load<f32>(g + at)
    store<f32>(u + at, velocity)
    store<f32>(v + at, load<f32>(v + at) + velocity)
  }
}
