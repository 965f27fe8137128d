/** The arithmetic of scaling: percentiles, efficiency and the laws of Amdahl and Gustafson. Pure. */

/** Of so many ranks, how fast they were. */
export interface Point {
  readonly ranks: number
  readonly samplesPerSecond: number
}

/** The value below which `share` (0 … 1) of the values lie, between two of them linearly (numpy's default). */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = share * (sorted.length - 1)
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!]
  return low + (high - low) * (at - Math.floor(at))
}

/** How many times as fast as one rank. */
export function speedUp({ samplesPerSecond }: Point, one: Point): number {
  return samplesPerSecond / one.samplesPerSecond
}

/** The share of its speed that each rank keeps: 1 where N ranks are N times as fast as one. */
export function efficiency(point: Point, one: Point): number {
  return speedUp(point, one) / point.ranks
}

/**
 * Strong scaling: the share s of a step that more ranks do not shorten, by which S(N) = 1 / (s + (1 - s) / N) (Amdahl 1967)
 * fits best. 1/S is linear in s, and fitted by least squares; below 0 is faster than linear. @returns undefined for one rank only.
 */
export function amdahlShare(points: readonly Point[], one: Point): number | undefined {
  return slope(points.map((point) => [1 - 1 / point.ranks, 1 / speedUp(point, one) - 1 / point.ranks]))
}

/**
 * Weak scaling: the share s by which S(N) = N - s (N - 1) (Gustafson 1988) fits best: 0 where N ranks do N times as much in
 * the same time. @returns undefined for one rank only.
 */
export function gustafsonShare(points: readonly Point[], one: Point): number | undefined {
  return slope(points.map((point) => [point.ranks - 1, point.ranks - speedUp(point, one)]))
}

/** Of the line through the origin that is nearest to (x, y), by least squares. */
function slope(points: readonly (readonly [x: number, y: number])[]): number | undefined {
  const squares = points.reduce((sum, [x]) => sum + x * x, 0)
  return squares === 0 ? undefined : points.reduce((sum, [x, y]) => sum + x * y, 0) / squares
}
