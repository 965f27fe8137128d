/**
 * Arrays that collectives use where they are: the same bytes, on huge pages once they come again.
 */
import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { expect, test } from 'vitest'
import { loadForeignMemory } from '../../src/collectives/foreign-memory.js'

const foreign = await loadForeignMemory()
const [major, minor] = release().split('.').map(Number) as [number, number]
const canCollapse =
  process.platform === 'linux' &&
  (major > 6 || (major === 6 && minor >= 1)) &&
  existsSync('/sys/kernel/mm/transparent_hugepage')

test.skipIf(!foreign)('a view shows the array itself', () => {
  const data = new Float32Array(2 ** 21).fill(1)
  const address = foreign!.addressOf(data)!
  for (let use = 0; use < 3; use++) {
    const view = new Float32Array(foreign!.view(address, data.byteLength))
    view[use] = 7
    expect(data[use]).toBe(7)
    expect(view.at(-1)).toBe(1)
  }
})

test.skipIf(!foreign || !canCollapse)('an array that comes again lies on huge pages', () => {
  const data = new Float32Array(2 ** 21).fill(1)
  const address = foreign!.addressOf(data)!
  const before = hugeKiB()
  foreign!.view(address, data.byteLength)
  foreign!.view(address, data.byteLength)
  expect(hugeKiB() - before).toBeGreaterThanOrEqual(2048)
  expect(data.every((value) => value === 1)).toBe(true)
})

function hugeKiB(): number {
  return Number(/AnonHugePages:\s+(\d+)/.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))![1])
}
