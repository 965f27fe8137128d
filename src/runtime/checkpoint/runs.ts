/**
 * Which of a tensor's numbers somebody has: equal runs at equal distances, which is what rows, columns, heads and parts of
 * a flat buffer come to. Pure arithmetic, in numbers from the tensor's first.
 */

/** `count` runs of `length` numbers; the first begins at `offset`, each other one `stride` after the one before it. */
export interface Runs {
  readonly offset: number
  readonly length: number
  readonly stride: number
  readonly count: number
}

export const allOf = (size: number): Runs => ({ offset: 0, length: size, stride: size, count: 1 })

export const sizeOf = ({ length, count }: Runs): number => length * count

/** Those between `from` and `to` (not included), counted among the numbers of `runs`: as at most three runs of runs. */
export function cutRuns({ offset, length, stride, count }: Runs, from: number, to: number): Runs[] {
  if (stride === length || count === 1)
    return from < to ? [{ ...allOf(to - from), offset: offset + from }] : []
  const cut: Runs[] = []
  for (let at = from; at < to; ) {
    const within = at % length
    const runs = within === 0 ? Math.floor((to - at) / length) : 0
    const taken = runs > 0 ? runs * length : Math.min(length - within, to - at)
    const start = offset + Math.floor(at / length) * stride + within
    cut.push({ ...(runs > 1 ? { length, stride, count: runs } : allOf(taken)), offset: start })
    at += taken
  }
  return cut
}

/** Consecutive numbers that two selections have both: `length` of them, from the a-th of one and the b-th of the other. */
export interface Common {
  readonly a: number
  readonly b: number
  readonly length: number
}

/** In ascending order. */
export function* common(a: Runs, b: Runs): Generator<Common> {
  for (let i = 0, j = 0; i < a.count && j < b.count; ) {
    const [startA, startB] = [a.offset + i * a.stride, b.offset + j * b.stride]
    const [endA, endB] = [startA + a.length, startB + b.length]
    const start = Math.max(startA, startB)
    const length = Math.min(endA, endB) - start
    if (length > 0) yield { a: i * a.length + start - startA, b: j * b.length + start - startB, length }
    if (endA <= endB) i++
    else j++
  }
}
