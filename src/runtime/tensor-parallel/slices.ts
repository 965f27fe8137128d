/** Which numbers of a weight one of several ranks holds. It copies numbers; it knows no layers and sends nothing. */

export interface Split {
  /** The dimension along which ranks hold a part each. */
  readonly axis: number
  /** That dimension is so many equal groups side by side (queries, keys and values: 3), of each of which a rank has a part. */
  readonly groups?: number
}

/** The shape of each rank's slice. */
export function sliceShape(shape: readonly number[], { axis }: Split, ranks: number): number[] {
  return shape.map((n, i) => (i === axis ? n / ranks : n))
}

/** This rank's slice of `whole`. */
export function sliceOf(
  whole: Float32Array,
  shape: readonly number[],
  split: Split,
  rank: number,
  ranks: number,
): Float32Array {
  const slice = new Float32Array(whole.length / ranks)
  eachRun(shape, split, rank, ranks, (inSlice, inWhole, length) => {
    slice.set(whole.subarray(inWhole, inWhole + length), inSlice)
  })
  return slice
}

/** The whole of all ranks' slices, which lie behind each other in rank order. */
export function joined(
  slices: Float32Array,
  shape: readonly number[],
  split: Split,
  ranks: number,
): Float32Array {
  const whole = new Float32Array(slices.length)
  for (let rank = 0; rank < ranks; rank++) {
    const first = (rank * slices.length) / ranks
    eachRun(shape, split, rank, ranks, (inSlice, inWhole, length) => {
      whole.set(slices.subarray(first + inSlice, first + inSlice + length), inWhole)
    })
  }
  return whole
}

/** Every contiguous run of numbers that a rank holds: where it lies in the slice and in the whole. */
function eachRun(
  shape: readonly number[],
  { axis, groups = 1 }: Split,
  rank: number,
  ranks: number,
  visit: (inSlice: number, inWhole: number, length: number) => void,
): void {
  const product = (from: number, to: number) => shape.slice(from, to).reduce((a, b) => a * b, 1)
  const count = product(0, axis) * groups
  const group = product(axis, shape.length) / groups
  const length = group / ranks
  for (let i = 0; i < count; i++) visit(i * length, i * group + rank * length, length)
}
