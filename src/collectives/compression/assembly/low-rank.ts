// Products of a matrix [rows, cols], row-major float32, with skinny ones of `width` columns, a multiple of 4. Four rows or
// four columns at a time share what they load; each element's sum is in the same order as one at a time.

// @ts-ignore: decorator
@inline
function at(base: usize, index: usize): usize {
  return base + (index << 2)
}

/** p [rows, width] = m q, for q [cols, width] */
export function timesSkinny(p: usize, m: usize, q: usize, rows: usize, cols: usize, width: usize): void {
  let i: usize = 0
  for (; i + 4 <= rows; i += 4) {
    for (let g: usize = 0; g < width; g += 4) {
      let sum0 = f32x4.splat(0)
      let sum1 = f32x4.splat(0)
      let sum2 = f32x4.splat(0)
      let sum3 = f32x4.splat(0)
      let from = at(m, i * cols)
      for (let j: usize = 0; j < cols; j++, from += 4) {
        const right = v128.load(at(q, j * width + g))
        sum0 = f32x4.add(sum0, f32x4.mul(v128.load32_splat(from), right))
        sum1 = f32x4.add(sum1, f32x4.mul(v128.load32_splat(at(from, cols)), right))
        sum2 = f32x4.add(sum2, f32x4.mul(v128.load32_splat(at(from, 2 * cols)), right))
        sum3 = f32x4.add(sum3, f32x4.mul(v128.load32_splat(at(from, 3 * cols)), right))
      }
      v128.store(at(p, i * width + g), sum0)
      v128.store(at(p, (i + 1) * width + g), sum1)
      v128.store(at(p, (i + 2) * width + g), sum2)
      v128.store(at(p, (i + 3) * width + g), sum3)
    }
  }
  for (; i < rows; i++) {
    for (let g: usize = 0; g < width; g += 4) {
      let sum = f32x4.splat(0)
      for (let j: usize = 0; j < cols; j++) {
        const value = v128.load32_splat(at(m, i * cols + j))
        sum = f32x4.add(sum, f32x4.mul(value, v128.load(at(q, j * width + g))))
      }
      v128.store(at(p, i * width + g), sum)
    }
  }
}

/** q [cols, width] = transpose of m times p, for p [rows, width] */
export function transposedTimesSkinny(
  q: usize,
  m: usize,
  p: usize,
  rows: usize,
  cols: usize,
  width: usize,
): void {
  memory.fill(q, 0, (cols * width) << 2)
  let i: usize = 0
  for (; i + 4 <= rows; i += 4) {
    for (let g: usize = 0; g < width; g += 4) {
      const factor0 = v128.load(at(p, i * width + g))
      const factor1 = v128.load(at(p, (i + 1) * width + g))
      const factor2 = v128.load(at(p, (i + 2) * width + g))
      const factor3 = v128.load(at(p, (i + 3) * width + g))
      let from = at(m, i * cols)
      for (let j: usize = 0; j < cols; j++, from += 4) {
        const to = at(q, j * width + g)
        let sum = v128.load(to)
        sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(from), factor0))
        sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(at(from, cols)), factor1))
        sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(at(from, 2 * cols)), factor2))
        sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(at(from, 3 * cols)), factor3))
        v128.store(to, sum)
      }
    }
  }
  for (; i < rows; i++) {
    for (let g: usize = 0; g < width; g += 4) {
      const factor = v128.load(at(p, i * width + g))
      for (let j: usize = 0; j < cols; j++) {
        const to = at(q, j * width + g)
        const value = v128.load32_splat(at(m, i * cols + j))
        v128.store(to, f32x4.add(v128.load(to), f32x4.mul(value, factor)))
      }
    }
  }
}

/** m += sign * p times the transpose of q, for m [rows, cols], p [rows, width], q [cols, width] */
export function addLowRank(
  m: usize,
  p: usize,
  q: usize,
  rows: usize,
  cols: usize,
  width: usize,
  sign: f32,
): void {
  const signs = f32x4.splat(sign)
  if (width == 4) addRank4(m, p, q, rows, cols, signs)
  for (let i: usize = 0; i < rows; i++) {
    let j: usize = width == 4 ? cols & ~3 : 0
    for (; j + 4 <= cols; j += 4) {
      let sum0 = f32x4.splat(0)
      let sum1 = f32x4.splat(0)
      let sum2 = f32x4.splat(0)
      let sum3 = f32x4.splat(0)
      for (let g: usize = 0; g < width; g += 4) {
        const left = v128.load(at(p, i * width + g))
        sum0 = f32x4.add(sum0, f32x4.mul(left, v128.load(at(q, j * width + g))))
        sum1 = f32x4.add(sum1, f32x4.mul(left, v128.load(at(q, (j + 1) * width + g))))
        sum2 = f32x4.add(sum2, f32x4.mul(left, v128.load(at(q, (j + 2) * width + g))))
        sum3 = f32x4.add(sum3, f32x4.mul(left, v128.load(at(q, (j + 3) * width + g))))
      }
      // Transposed, the four sums' lanes are four vectors to add up.
      const even0 = v128.shuffle<f32>(sum0, sum1, 0, 4, 2, 6)
      const odd0 = v128.shuffle<f32>(sum0, sum1, 1, 5, 3, 7)
      const even1 = v128.shuffle<f32>(sum2, sum3, 0, 4, 2, 6)
      const odd1 = v128.shuffle<f32>(sum2, sum3, 1, 5, 3, 7)
      const pairs0 = f32x4.add(even0, odd0) // low and high of 0 and 1, alternating
      const pairs1 = f32x4.add(even1, odd1)
      const low = v128.shuffle<f32>(pairs0, pairs1, 0, 1, 4, 5)
      const high = v128.shuffle<f32>(pairs0, pairs1, 2, 3, 6, 7)
      const to = at(m, i * cols + j)
      v128.store(to, f32x4.add(v128.load(to), f32x4.mul(signs, f32x4.add(low, high))))
    }
    for (; j < cols; j++) {
      let sum = f32x4.splat(0)
      for (let g: usize = 0; g < width; g += 4) {
        const left = v128.load(at(p, i * width + g))
        sum = f32x4.add(sum, f32x4.mul(left, v128.load(at(q, j * width + g))))
      }
      const low = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)
      const high = f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3)
      const to = at(m, i * cols + j)
      store<f32>(to, load<f32>(to) + sign * (low + high))
    }
  }
}

/** The same for a width of 4 and as many columns as make up fours: some rows, which stay in the cache, share what is transposed. */
function addRank4(m: usize, p: usize, q: usize, rows: usize, cols: usize, signs: v128): void {
  for (let first: usize = 0; first < rows; first += 32) {
    const end = min(rows, first + 32)
    for (let j: usize = 0; j + 4 <= cols; j += 4) {
      const row0 = v128.load(at(q, j * 4))
      const row1 = v128.load(at(q, j * 4 + 4))
      const row2 = v128.load(at(q, j * 4 + 8))
      const row3 = v128.load(at(q, j * 4 + 12))
      const low01 = v128.shuffle<f32>(row0, row1, 0, 4, 1, 5)
      const low23 = v128.shuffle<f32>(row2, row3, 0, 4, 1, 5)
      const high01 = v128.shuffle<f32>(row0, row1, 2, 6, 3, 7)
      const high23 = v128.shuffle<f32>(row2, row3, 2, 6, 3, 7)
      const column0 = v128.shuffle<f32>(low01, low23, 0, 1, 4, 5)
      const column1 = v128.shuffle<f32>(low01, low23, 2, 3, 6, 7)
      const column2 = v128.shuffle<f32>(high01, high23, 0, 1, 4, 5)
      const column3 = v128.shuffle<f32>(high01, high23, 2, 3, 6, 7)
      for (let i = first; i < end; i++) {
        const left = at(p, i * 4)
        const even = f32x4.add(
          f32x4.mul(v128.load32_splat(left), column0),
          f32x4.mul(v128.load32_splat(left, 4), column1),
        )
        const odd = f32x4.add(
          f32x4.mul(v128.load32_splat(left, 8), column2),
          f32x4.mul(v128.load32_splat(left, 12), column3),
        )
        const to = at(m, i * cols + j)
        // Sums begin with 0: none is -0.
        const sum = f32x4.add(f32x4.add(even, odd), f32x4.splat(0))
        v128.store(to, f32x4.add(v128.load(to), f32x4.mul(signs, sum)))
      }
    }
  }
}
