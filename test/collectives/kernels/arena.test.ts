import { describe, expect, test } from 'vitest'
import { Arena, memoryOf } from '../../../src/collectives/kernels/arena.js'
import { LockstepError } from '../../../src/errors.js'

describe('Arena', () => {
  test('hands out zeroed, aligned buffers of one memory that do not overlap', () => {
    const lengths = [1, 16, 0, 17, 1000]
    const arena = new Arena(Arena.bytesFor(lengths))
    const views = lengths.map((length) => arena.alloc(length))
    views.forEach((view, i) => {
      expect(view).toHaveLength(lengths[i]!)
      expect(view.buffer).toBe(arena.memory.buffer)
      expect(view.byteOffset % 64).toBe(0)
      expect(view.every((x) => x === 0)).toBe(true)
      view.fill(i + 1)
    })
    expect(views.map((view, i) => view.every((x) => x === i + 1))).not.toContain(false)
  })

  test('counts alignment in what it needs', () => {
    expect(Arena.bytesFor([1, 16, 17])).toBe(64 + 64 + 128)
    expect(Arena.bytesFor([])).toBe(0)
  })

  test('says what is free when there is no room', () => {
    const arena = new Arena(65_536)
    arena.alloc(16_000)
    expect(() => arena.alloc(500)).toThrow(
      'the arena has no room for 500 floats (2048 bytes): 1536 of its 65536 bytes are free',
    )
    expect(arena.alloc(384)).toHaveLength(384)
    expect(() => arena.alloc(1)).toThrow(LockstepError)
  })

  test('addresses 4 GiB, and says what to do when a model needs more', () => {
    const arena = new Arena(2 ** 32) // reserved, not committed: nothing is touched but its last floats
    arena.alloc(2 ** 30 - 16)
    expect(arena.alloc(16).byteOffset).toBe(2 ** 32 - 64)
    expect(() => new Arena(2 ** 32 + 1)).toThrow(
      /the model needs 4\.00 GiB .* can hold 4 GiB: use a smaller model/,
    )
  })

  test('knows its memory by its buffer', () => {
    const arena = new Arena(64)
    expect(memoryOf(arena.alloc(1).buffer)).toBe(arena.memory)
    expect(memoryOf(new Float32Array(1).buffer)).toBeUndefined()
  })
})
