// Products of a matrix [rows, cols], row-major float32, with skinny ones of `width` columns, a multiple of 4.

/** p [rows, width] = m q, for q [cols, width] */
export function timesSkinny(p: usize, m: usize, q: usize, rows: usize, cols: usize, width: usize): void {
  for (let i: usize = 0; i < rows; i++) {
    for (let g: usize = 0; g < width; g += 4) {
      let sum = f32x4.splat(0)
      for (let j: usize = 0; j < cols; j++) {
        const value = v128.load32_splat(m + ((i * cols + j) << 2))
        sum = f32x4.add(sum, f32x4.mul(value, v128.load(q + ((j * width + g) << 2))))
      }
      v128.store(p + ((i * width + g) << 2), sum)
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
  for (let i: usize = 0; i < rows; i++) {
    for (let g: usize = 0; g < width; g += 4) {
      const factor = v128.load(p + ((i * width + g) << 2))
      for (let j: usize = 0; j < cols; j++) {
        const to = q + ((j * width + g) << 2)
        const value = v128.load32_splat(m + ((i * cols + j) << 2))
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
  for (let i: usize = 0; i < rows; i++) {
    for (let j: usize = 0; j < cols; j++) {
      let sum = f32x4.splat(0)
      for (let g: usize = 0; g < width; g += 4) {
        const left = v128.load(p + ((i * width + g) << 2))
        sum = f32x4.add(sum, f32x4.mul(left, v128.load(q + ((j * width + g) << 2))))
      }
      const low = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)
      const high = f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3)
      const to = m + ((i * cols + j) << 2)
      store<f32>(to, load<f32>(to) + sign * (low + high))
    }
  }
}
