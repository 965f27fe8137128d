/**
 * Draws one digit as a hand might: bent, leaning, turned, somewhere, thick or thin, blurred and noisy. Uses only
 * + − × ÷ and √ on doubles, which IEEE 754 rounds in one way everywhere, so every machine draws the same bytes;
 * that is why angles come as half-angle tangents.
 */
import { GLYPHS, type Point, type Stroke } from './digit-glyphs.js'
import type { Mt19937 } from './mt19937.js'

/** Rows and columns of the picture. */
export const SIDE = 28
const STEPS_PER_SPAN = 5

/** Draws `digit` (0–9) into `target`, SIDE × SIDE bytes. The same state of `random` gives the same picture. */
export function drawDigit(digit: number, random: Mt19937, target: Uint8Array): void {
  const glyphs = GLYPHS[digit]!
  const glyph = glyphs[random.uint32() % glyphs.length]!
  const hand = randomHand(random)
  const radius = between(random, 0.6, 1.5)
  const canvas = new Float64Array(SIDE * SIDE)
  for (const stroke of glyph) inkStroke(canvas, smooth(stroke.map(hand)), radius)
  blur(canvas, between(random, 0, 0.25))
  develop(canvas, random, target)
}

function between(random: Mt19937, low: number, high: number): number {
  return low + (high - low) * random.uniform()
}

/** Bend, shear, rotate, scale and move, the same for all points of one digit, then a tremble of each point. */
function randomHand(random: Mt19937): (point: Point) => Point {
  const [bendX, bendY, twistX, twistY] = Array.from({ length: 4 }, () => between(random, -0.4, 0.4))
  const lean = between(random, -0.35, 0.35)
  const t = between(random, -0.13, 0.13) // tangent of half the angle: up to 15 degrees either way
  const cos = (1 - t * t) / (1 + t * t)
  const sin = (2 * t) / (1 + t * t)
  const width = between(random, 9, 16)
  const height = between(random, 15, 20)
  const centreX = SIDE / 2 + between(random, -2.5, 2.5)
  const centreY = SIDE / 2 + between(random, -2.5, 2.5)
  return ([px, py]) => {
    const u = px - 0.5 + between(random, -0.04, 0.04)
    const v = py - 0.5 + between(random, -0.04, 0.04)
    const x = (u + bendX! * (v * v - 0.1) + twistX! * u * v) * width - lean * v * height
    const y = (v + bendY! * (u * u - 0.1) + twistY! * u * v) * height
    return [centreX + cos * x - sin * y, centreY + sin * x + cos * y]
  }
}

/** The Catmull–Rom spline through the points (Catmull & Rom, 1974), as a polyline. */
function smooth(points: Stroke): Stroke {
  const line: Point[] = [points[0]!]
  for (let i = 0; i + 1 < points.length; i++) {
    const [p1, p2] = [points[i]!, points[i + 1]!]
    const [p0, p3] = [points[i - 1] ?? p1, points[i + 2] ?? p2]
    for (let step = 1; step <= STEPS_PER_SPAN; step++) {
      const t = step / STEPS_PER_SPAN
      line.push([catmullRom(p0[0], p1[0], p2[0], p3[0], t), catmullRom(p0[1], p1[1], p2[1], p3[1], t)])
    }
  }
  return line
}

function catmullRom(a: number, b: number, c: number, d: number, t: number): number {
  return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
}

/** Inks every pixel by how much of it lies within `radius` of the polyline. */
function inkStroke(canvas: Float64Array, line: Stroke, radius: number): void {
  const reach = radius + 0.5
  for (let i = 0; i + 1 < line.length; i++) {
    const [x0, y0] = line[i]!
    const [x1, y1] = line[i + 1]!
    const dx = x1 - x0
    const dy = y1 - y0
    const lengthSquared = dx * dx + dy * dy + 1e-9
    const right = Math.min(SIDE - 1, Math.floor(Math.max(x0, x1) + reach))
    const bottom = Math.min(SIDE - 1, Math.floor(Math.max(y0, y1) + reach))
    for (let row = Math.max(0, Math.ceil(Math.min(y0, y1) - reach)); row <= bottom; row++)
      for (let column = Math.max(0, Math.ceil(Math.min(x0, x1) - reach)); column <= right; column++) {
        const along = ((column - x0) * dx + (row - y0) * dy) / lengthSquared
        const nearest = Math.min(1, Math.max(0, along))
        const offX = column - x0 - nearest * dx
        const offY = row - y0 - nearest * dy
        const ink = Math.min(1, reach - Math.sqrt(offX * offX + offY * offY))
        const at = row * SIDE + column
        if (ink > canvas[at]!) canvas[at] = ink
      }
  }
}

/** Smears each pixel over its neighbours with weights [side, 1 − 2·side, side], along rows, then along columns. */
function blur(canvas: Float64Array, side: number): void {
  for (const [stride, across] of [
    [1, SIDE],
    [SIDE, 1],
  ] as const)
    for (let line = 0; line < SIDE; line++) {
      let before = 0
      for (let i = 0; i < SIDE; i++) {
        const at = line * across + i * stride
        const here = canvas[at]!
        const after = i + 1 < SIDE ? canvas[at + stride]! : 0
        canvas[at] = here + side * (before - 2 * here + after)
        before = here
      }
    }
}

/** Turns ink into bytes, with paler or darker ink and noise on every pixel. */
function develop(canvas: Float64Array, random: Mt19937, target: Uint8Array): void {
  const ink = between(random, 0.7, 1)
  const noise = between(random, 0, 0.25)
  for (let i = 0; i < canvas.length; i++) {
    const value = ink * canvas[i]! + noise * (random.uniform() - 0.5)
    target[i] = Math.round(255 * Math.min(1, Math.max(0, value)))
  }
}
