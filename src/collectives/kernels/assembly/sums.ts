// Sums of several buffers in one pass, always from the left: ((a + b) + c) + d. Every buffer is read once and every
// target written once, which is all that counts when the buffers are larger than the caches.

/** dst[i] = a[i] + b[i]; dst may be a or b. Four vectors at a time: V8 looks at the stack once a turn of a loop. */
export function sum2(dst: usize, a: usize, b: usize, length: usize): void {
  const bytes = length << 2
  const fours = bytes & ~63
  let i: usize = 0
  for (; i < fours; i += 64) {
    v128.store(dst + i, f32x4.add(v128.load(a + i), v128.load(b + i)))
    v128.store(dst + i, f32x4.add(v128.load(a + i, 16), v128.load(b + i, 16)), 16)
    v128.store(dst + i, f32x4.add(v128.load(a + i, 32), v128.load(b + i, 32)), 32)
    v128.store(dst + i, f32x4.add(v128.load(a + i, 48), v128.load(b + i, 48)), 48)
  }
  for (; i < bytes; i += 4) store<f32>(dst + i, load<f32>(a + i) + load<f32>(b + i))
}

/** dst[i] = a[i] + b[i] + c[i]; dst may be one of them. */
export function sum3(dst: usize, a: usize, b: usize, c: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    v128.store(dst + i, f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(c + i)))
  }
  for (; i < bytes; i += 4) {
    store<f32>(dst + i, load<f32>(a + i) + load<f32>(b + i) + load<f32>(c + i))
  }
}

/** dst[i] = a[i] + b[i] + c[i] + d[i]; dst may be one of them. */
export function sum4(dst: usize, a: usize, b: usize, c: usize, d: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    const abc = f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(c + i))
    v128.store(dst + i, f32x4.add(abc, v128.load(d + i)))
  }
  for (; i < bytes; i += 4) {
    store<f32>(dst + i, load<f32>(a + i) + load<f32>(b + i) + load<f32>(c + i) + load<f32>(d + i))
  }
}

/** a[i] = b[i] = a[i] + b[i] */
export function sumAll2(a: usize, b: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    const sum = f32x4.add(v128.load(a + i), v128.load(b + i))
    v128.store(a + i, sum)
    v128.store(b + i, sum)
  }
  for (; i < bytes; i += 4) {
    const sum = load<f32>(a + i) + load<f32>(b + i)
    store<f32>(a + i, sum)
    store<f32>(b + i, sum)
  }
}

/** a[i] = b[i] = c[i] = a[i] + b[i] + c[i] */
export function sumAll3(a: usize, b: usize, c: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    const sum = f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(c + i))
    v128.store(a + i, sum)
    v128.store(b + i, sum)
    v128.store(c + i, sum)
  }
  for (; i < bytes; i += 4) {
    const sum = load<f32>(a + i) + load<f32>(b + i) + load<f32>(c + i)
    store<f32>(a + i, sum)
    store<f32>(b + i, sum)
    store<f32>(c + i, sum)
  }
}

/** a[i] = b[i] = c[i] = d[i] = a[i] + b[i] + c[i] + d[i] */
export function sumAll4(a: usize, b: usize, c: usize, d: usize, length: usize): void {
  const bytes = length << 2
  const whole = bytes & ~15
  let i: usize = 0
  for (; i < whole; i += 16) {
    const abc = f32x4.add(f32x4.add(v128.load(a + i), v128.load(b + i)), v128.load(c + i))
    const sum = f32x4.add(abc, v128.load(d + i))
    v128.store(a + i, sum)
    v128.store(b + i, sum)
    v128.store(c + i, sum)
    v128.store(d + i, sum)
  }
  for (; i < bytes; i += 4) {
    const sum = load<f32>(a + i) + load<f32>(b + i) + load<f32>(c + i) + load<f32>(d + i)
    store<f32>(a + i, sum)
    store<f32>(b + i, sum)
    store<f32>(c + i, sum)
    store<f32>(d + i, sum)
  }
}
