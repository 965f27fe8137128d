/** Sorted positions come back, in no more bytes than are said. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  packPositions,
  positionBytes,
  unpackPositions,
} from '../../../src/collectives/compression/sorted-positions.js'

function thereAndBack(positions: Uint32Array, below: number): Uint32Array {
  const packed = new Uint8Array(positionBytes(positions.length, below)).fill(255)
  packPositions(packed, positions, below)
  const back = new Uint32Array(positions.length)
  unpackPositions(back, packed, below)
  return back
}

test('any positions', () => {
  const below = fc.constantFrom(1, 255, 256, 257, 70_000, 2 ** 24, 2 ** 32)
  const some = below.chain((most) =>
    fc.tuple(fc.constant(most), fc.uniqueArray(fc.nat(most - 1), { minLength: 1, maxLength: 300 })),
  )
  fc.assert(
    fc.property(some, ([most, list]) => {
      const positions = Uint32Array.from(list).sort()
      expect(thereAndBack(positions, most)).toEqual(positions)
    }),
  )
})

test.each([
  ['all', 0],
  ['the first', 1],
  ['the last', 2],
])('%s of 10000', (_, which) => {
  const all = Uint32Array.from({ length: 10_000 }, (_, i) => i)
  const positions = [all, all.subarray(0, 100), all.subarray(-100)][which]!
  expect(thereAndBack(positions, 10_000)).toEqual(positions)
})

test('about one byte each of every hundredth, two where they are far between', () => {
  expect(positionBytes(10_000, 1_000_000) / 10_000).toBeCloseTo(1.17, 2)
  expect(positionBytes(1000, 10_000_000) / 1000).toBeCloseTo(2.15, 2)
})
