/** Operations of a background group go on while the caller's thread, or the other rank's, is busy; others wait for it. */
import { afterEach, describe, expect, test } from 'vitest'
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

describe('over shared memory', () => {
  const shared = GROUPS.find(({ name }) => name === 'shared memory')!

  async function pair(floats: number) {
    links = await shared.connect(2)
    const groups = links.map((link) => link.group([0, 1], { background: true }))
    const data = new Float32Array(floats)
    // The first opens what is needed.
    await Promise.all([groups[0]!.send(data, 1), groups[1]!.recv(data, 0)])
    return groups as [Communicator, Communicator]
  }

  // The largest goes through in pieces.
  test.each([1, 100_000, 3_000_000])('%i floats are sent before anybody receives', async (floats) => {
    const [sender, receiver] = await pair(floats)
    const data = new Float32Array(floats).fill(1)
    const sent = sender.send(data, 1)
    if (floats < 1_000_000) await sent
    const got = [1, 2, 3].map(() => new Float32Array(floats))
    const received = got.map((each) => receiver.recv(each, 0))
    await sent
    for (const value of [2, 3]) await sender.send(data.fill(value), 1)
    data.fill(0) // it is the sender's again
    await Promise.all(received)
    got.forEach((each, i) => {
      expect(each.every((n) => n === i + 1)).toBe(true)
    })
    expect(links[0]!.bytesSent).toBe(4 * data.byteLength)
  })

  test('the receiver finds out that the two disagree, and tells the sender', async () => {
    const [sender, receiver] = await pair(4)
    await sender.send(new Float32Array(4), 1)
    const said =
      /rank 0 called send_recv\(float32 × 4\) .*, but rank 1 called send_recv\(float32 × 5\) .*: every rank must call the same/
    await expect(receiver.recv(new Float32Array(5), 0)).rejects.toThrow(said)
    await expect(sender.send(new Float32Array(4), 1)).rejects.toThrow(said)
  })
})
