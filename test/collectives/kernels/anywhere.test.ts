/** Kernels on arrays outside their memory: the same bits as the scalar loop, in parts, from anywhere. */
import { expect, test } from 'vitest'
import { anywhere, roomFor } from '../../../src/collectives/kernels/anywhere.js'
import { multiply } from '../../../src/collectives/kernels/kernels.js'

const product = anywhere(multiply)

function floats(bytes: Uint8Array, length: number): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, length)
}

test.each([0, 1, 4095, 4096, 10_001])('%i floats, from plain memory and from room of its own', (length) => {
  const dst = Float32Array.from({ length: length + 2 }, (_, i) => i / 7)
  const src = Float32Array.from({ length }, (_, i) => 1 + i / 3)
  const expected = dst.map((value, i) => (i > 0 && i <= length ? value * src[i - 1]! : value))
  const room = floats(roomFor(length * 4), length)
  room.set(src)
  for (const source of [src, room]) {
    const data = dst.slice()
    product(data.subarray(1, length + 1), source)
    expect(Buffer.compare(Buffer.from(data.buffer), Buffer.from(expected.buffer))).toBe(0)
  }
})

test('room that is handed out is never shared, and there is always more', () => {
  const rooms = Array.from({ length: 20 }, (_, i) => roomFor(128 * 1024).fill(i))
  rooms.forEach((room, i) => {
    expect(room).toHaveLength(128 * 1024)
    expect(room.every((byte) => byte === i)).toBe(true)
  })
})
