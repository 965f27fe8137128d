/** The arithmetic of which numbers lie where, against lists of numbers. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { common, cutRuns, type Runs, sizeOf } from '../../../src/runtime/checkpoint/runs.js'

const numbersOf = ({ offset, length, stride, count }: Runs): number[] =>
  Array.from({ length: count }, (_, i) => Array.from({ length }, (_, k) => offset + i * stride + k)).flat()

const anyRuns = fc
  .record({
    offset: fc.nat(20),
    length: fc.integer({ min: 1, max: 7 }),
    gap: fc.nat(6),
    count: fc.integer({ min: 1, max: 6 }),
  })
  .map(({ offset, length, gap, count }): Runs => ({ offset, length, stride: length + gap, count }))

test('a cut selects what a slice of the list does, in at most three', () => {
  fc.assert(
    fc.property(anyRuns, fc.nat(50), fc.nat(50), (runs, a, b) => {
      const [from, to] = [a, b].map((at) => Math.min(at, sizeOf(runs))).sort((x, y) => x - y) as [
        number,
        number,
      ]
      const cut = cutRuns(runs, from, to)
      expect(cut.flatMap(numbersOf)).toEqual(numbersOf(runs).slice(from, to))
      expect(cut.length).toBeLessThanOrEqual(3)
    }),
  )
})

test('what two have in common is at the same numbers in both, once, and all of it', () => {
  fc.assert(
    fc.property(anyRuns, anyRuns, (a, b) => {
      const [inA, inB] = [numbersOf(a), numbersOf(b)]
      const found = [...common(a, b)].flatMap(({ a: atA, b: atB, length }) => {
        const same = inA.slice(atA, atA + length)
        expect(inB.slice(atB, atB + length)).toEqual(same)
        return same
      })
      expect(found).toEqual(inA.filter((number) => inB.includes(number)))
    }),
  )
})
