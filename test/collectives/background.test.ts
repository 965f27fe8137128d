/** Small operations of a background group go on while the caller's thread is busy; others wait for it. */
import { afterEach, expect, test } from 'vitest'
import type { Communicator } from '../../src/collectives/communicator.js'
import { loadForeignMemory } from '../../src/collectives/foreign-memory.js'
import { GROUPS } from './groups.js'

const tcp = GROUPS.find(({ name }) => name === 'tcp')!
/** Small, but large enough that a worker writes straight into the array. */
const FLOATS = 20_000
let links: Communicator[] = []
afterEach(() => Promise.all(links.map((link) => link.close())))

/** Whether an all-reduce of a group was done while this thread slept, with no turn of its event loop. */
async function doneMeanwhile(background: boolean): Promise<boolean> {
  links = await tcp.connect(2)
  const groups = links.map((link) => link.group([0, 1], { background }))
  const arrays = groups.map(() => new Float32Array(FLOATS))
  // The first opens what is needed.
  await Promise.all(groups.map((group, rank) => group.allReduce(arrays[rank]!)))
  for (const array of arrays) array.fill(1)
  const sums = groups.map((group, rank) => group.allReduce(arrays[rank]!))
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
  const done = arrays.every((array) => array.at(-1) === 2 && array[0] === 2)
  await Promise.all(sums)
  for (const array of arrays) expect(array.every((x) => x === 2)).toBe(true)
  return done
}

test.skipIf((await loadForeignMemory()) === undefined)('in the background, and not', async () => {
  expect(await doneMeanwhile(true)).toBe(true)
  await Promise.all(links.map((link) => link.close()))
  expect(await doneMeanwhile(false)).toBe(false)
})
