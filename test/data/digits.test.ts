import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Batch } from '../../src/data/dataset.js'
import { generateDigits } from '../../src/data/digits.js'
import { LockstepError } from '../../src/errors.js'

const PIXELS = 28 * 28
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i)

/** Softmax regression by plain SGD, batches of one: the best that a linear model does here, near enough. */
function trainLinear({ x, y }: Batch, epochs: number): Float32Array {
  const weights = new Float32Array(10 * (PIXELS + 1))
  for (let epoch = 0; epoch < epochs; epoch++)
    for (let item = 0; item < y.data.length; item++) {
      const pixels = x.data.subarray(item * PIXELS, (item + 1) * PIXELS)
      const scores = linearScores(weights, pixels)
      const largest = Math.max(...scores)
      const powers = scores.map((score) => Math.exp(score - largest))
      const sum = powers.reduce((a, b) => a + b)
      for (let digit = 0; digit < 10; digit++) {
        const slope = (0.05 / (1 + epoch)) * (powers[digit]! / sum - (y.data[item] === digit ? 1 : 0))
        const row = digit * (PIXELS + 1)
        for (let p = 0; p < PIXELS; p++) weights[row + p]! -= slope * pixels[p]!
        weights[row + PIXELS]! -= slope
      }
    }
  return weights
}

function linearScores(weights: Float32Array, pixels: ArrayLike<number>): number[] {
  return upTo(10).map((digit) => {
    const row = digit * (PIXELS + 1)
    let score = weights[row + PIXELS]!
    for (let p = 0; p < PIXELS; p++) score += weights[row + p]! * pixels[p]!
    return score
  })
}

function linearAccuracy(weights: Float32Array, { x, y }: Batch): number {
  const right = upTo(y.data.length).filter((item) => {
    const scores = linearScores(weights, x.data.subarray(item * PIXELS, (item + 1) * PIXELS))
    return scores.indexOf(Math.max(...scores)) === y.data[item]
  })
  return right.length / y.data.length
}

describe('generateDigits', () => {
  it('gives float32 images from 0 to 1 and int32 labels of all ten digits', () => {
    const { x, y } = generateDigits(200, 1).batch(upTo(200))
    expect(x.shape).toEqual([200, 28, 28, 1])
    expect(x.data).toBeInstanceOf(Float32Array)
    expect(y.shape).toEqual([200])
    expect(y.data).toBeInstanceOf(Int32Array)
    expect(new Set(y.data)).toEqual(new Set(upTo(10)))
    for (let item = 0; item < 200; item++) {
      const ink = x.data
        .subarray(item * PIXELS, (item + 1) * PIXELS)
        .filter((pixel: number) => pixel > 0.25).length
      expect(ink).toBeGreaterThan(8)
      expect(ink).toBeLessThan(PIXELS / 2)
    }
    expect(x.data.every((pixel: number) => pixel >= 0 && pixel <= 1)).toBe(true)
  })

  it('draws the same bytes on every machine', () => {
    const { x, y } = generateDigits(500, 3).batch(upTo(500))
    const bytes = Uint8Array.from(x.data, (pixel) => Math.round(255 * pixel))
    expect(createHash('sha256').update(bytes).update(Uint8Array.from(y.data)).digest('hex')).toBe(
      'de41a3e2bcdae4a3314ff36e38a22c931be93b12b01e03fbd443a80007e98a41',
    )
  })

  it('draws a digit alike in whatever order and company it is asked for', () => {
    const forward = generateDigits(20, 1).batch(upTo(20))
    const backward = generateDigits(1000, 1).batch(upTo(20).reverse())
    for (const item of upTo(20))
      expect(backward.x.data.subarray((19 - item) * PIXELS, (20 - item) * PIXELS)).toEqual(
        forward.x.data.subarray(item * PIXELS, (item + 1) * PIXELS),
      )
  })

  it('draws other digits from another seed', () => {
    const pictures = [1, 2, -1, 0].flatMap((seed) => {
      const { x } = generateDigits(500, seed).batch(upTo(500))
      return upTo(500).map((item) => x.data.subarray(item * PIXELS, (item + 1) * PIXELS).join())
    })
    expect(new Set(pictures).size).toBe(2000)
  })

  it('is hard enough that a linear model stays below 95 %, and not so hard that it learns nothing', () => {
    const weights = trainLinear(generateDigits(4000, 1).batch(upTo(4000)), 6)
    const accuracy = linearAccuracy(weights, generateDigits(1000, 2).batch(upTo(1000)))
    expect(accuracy).toBeLessThan(0.95)
    expect(accuracy).toBeGreaterThan(0.75)
  })

  it('refuses nonsense in one line', () => {
    expect(() => generateDigits(0, 1)).toThrow(LockstepError)
    expect(() => generateDigits(0, 1)).toThrow(/^generateDigits: count is 0, expected .* at least 1; pass/)
    expect(() => generateDigits(10, 0.5)).toThrow(/seed is 0\.5/)
    expect(() => generateDigits(10, 1).batch([10])).toThrow(/index is 10, expected an integer from 0 to 9/)
  })
})
