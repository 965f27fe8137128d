/**
 * Cutting large collectives, and handing out the memory that their pieces pass through.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call } from '../../src/collectives/call.js'
import { piecesOf } from '../../src/collectives/pieces.js'
import { Staging } from '../../src/collectives/staging.js'
import type { Task } from '../../src/collectives/task.js'

/** The task of one rank, as the communicator makes it: numbered input, empty output. */
function taskOf(operation: Call['operation'], size: number, count: number, rank: number): Task {
  const data = Int32Array.from({ length: size * count }, (_, i) => i)
  const part = data.subarray(rank * count, (rank + 1) * count)
  const call = (given: number, extra: Partial<Call> = {}): Call => ({
    operation,
    dtype: 'int32',
    count: given,
    ...extra,
  })
  const own = { data: part, at: rank * count }
  const all = { data, at: 0 }
  if (operation === 'all_gather') return { call: call(count), elements: data.length, input: own, output: all }
  if (operation === 'reduce_scatter')
    return { call: call(data.length), elements: data.length, input: all, output: own }
  if (operation === 'gather' && rank > 0)
    return { call: call(count, { root: 0 }), elements: count, input: { data: part, at: 0 } }
  if (operation === 'gather')
    return { call: call(count, { root: 0 }), elements: data.length, input: own, output: all }
  if (operation === 'all_to_all') {
    const output = { data: data.slice(), at: data.length }
    return { call: call(data.length), elements: 2 * data.length, input: all, output }
  }
  if (operation === 'all_gather_uneven') {
    const counts = Array.from({ length: size }, (_, peer) => (peer === 0 ? 1 : count))
    const before = counts.slice(0, rank).reduce((sum, length) => sum + length, 0)
    // Rank 0's part is one element even where the others' are none: more than size × count.
    const total = counts.reduce((sum, length) => sum + length, 0)
    const whole = Int32Array.from({ length: total }, (_, i) => i)
    const mine = whole.subarray(before, before + counts[rank]!)
    return {
      call: call(whole.length, { counts }),
      elements: whole.length,
      input: { data: mine, at: before },
      output: { data: whole, at: 0 },
    }
  }
  return { call: call(data.length), elements: data.length, input: all, output: all }
}

const OPERATIONS = [
  'all_reduce',
  'all_gather',
  'reduce_scatter',
  'gather',
  'all_to_all',
  'all_gather_uneven',
] as const

test('pieces are equally many on all ranks, bounded, and cover every element once', () => {
  const cases = fc.record({
    operation: fc.constantFrom(...OPERATIONS),
    size: fc.integer({ min: 2, max: 5 }),
    count: fc.nat(300),
    most: fc.integer({ min: 1, max: 200 }),
  })
  fc.assert(
    fc.property(cases, ({ operation, size, count, most }) => {
      const tasks = Array.from({ length: size }, (_, rank) => taskOf(operation, size, count, rank))
      const pieces = tasks.map((task) => piecesOf(task, size, most))
      expect(new Set(pieces.map(({ length }) => length)).size).toBe(1)
      tasks.forEach((task, rank) => {
        const sum = pieces[rank]!.reduce((total, { elements }) => total + elements, 0)
        expect(sum).toBe(task.elements)
        for (const { elements } of pieces[rank]!) expect(elements).toBeLessThanOrEqual(most + 2 * size)
        for (const key of ['inputs', 'outputs'] as const) {
          const whole = key === 'inputs' ? task.input : task.output
          const covered = pieces[rank]!.flatMap((piece) => piece[key].flatMap(({ data }) => Array.from(data)))
          expect(covered.sort((a, b) => a - b)).toEqual(whole ? Array.from(whole.data) : [])
        }
      })
    }),
  )
})

test('staging memory is handed out once, given back whole, and lowest first', () => {
  const steps = fc.array(fc.record({ bytes: fc.nat(5000), back: fc.nat(10) }), { maxLength: 60 })
  fc.assert(
    fc.property(steps, (all) => {
      const staging = new Staging(20_032)
      const taken: { start: number; bytes: number }[] = []
      for (const { bytes, back } of all) {
        const start = staging.take(bytes)
        if (start !== undefined) {
          for (const other of taken) {
            expect(
              start + bytes <= other.start ||
                start >= other.start + other.bytes ||
                bytes === 0 ||
                other.bytes === 0,
            ).toBe(true)
          }
          taken.push({ start, bytes })
        }
        const [gone] = taken.splice(back, 1)
        if (gone) staging.giveBack(gone.start, gone.bytes)
      }
      for (const { start, bytes } of taken) staging.giveBack(start, bytes)
      expect(staging.take(20_032)).toBe(0) // all of it is in one piece again
    }),
  )
})
