/**
 * Ranks as real processes, some of which are killed. Whoever survives learns which rank it was, at once.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { afterEach, describe, expect, test } from 'vitest'
import { TRANSPORT_KINDS, type TransportKind } from '../../src/collectives/transports/mesh.js'
import { compiled } from '../compiled.js'

interface Told {
  readonly error?: { readonly name: string; readonly message: string; readonly rank?: number }
  readonly at?: number
}

const SCRIPT = compiled('test/collectives/rank-process.ts')
/** CHAOS_ROUNDS=200 (npm run test:chaos) is what a release is tested with. */
const ROUNDS = Number(process.env.CHAOS_ROUNDS ?? 2)
/** Elements: less than a block, several blocks, more than a window. */
const COUNTS = [1000, 3_000_000, 200_000]
/**
 * Some ms as a rule. A second is what is promised, and asserted by test:chaos; `npm test` may share its machine with anything,
 * so there it only must not be the timeout, 10 s, that ends a wait.
 */
const SOON_MS = process.env.CHAOS_ROUNDS ? 1000 : 3000
const SOON = `within ${SOON_MS / 1000} s`
let processes: ChildProcess[] = []

afterEach(() => {
  for (const child of processes) child.kill('SIGKILL')
  processes = []
})

/** Starts `size` connected ranks, and passes their addresses around. */
async function ranks(kind: TransportKind, size: number, count = 200_000): Promise<ChildProcess[]> {
  processes = Array.from({ length: size }, (_, rank) =>
    fork(SCRIPT, {
      execArgv: [],
      env: { ...process.env, KIND: kind, COUNT: `${count}`, RANK: `${rank}`, WORLD_SIZE: `${size}` },
    }),
  )
  for (const child of processes) {
    child.on('message', (message: { set?: string }) => {
      if (message.set !== undefined) for (const other of processes) other.send(message)
    })
  }
  await Promise.all(processes.map((child) => said<{ ready: boolean }>(child, 'ready')))
  return processes
}

function said<T>(child: ChildProcess, key: string): Promise<T> {
  return new Promise((resolve, reject) => {
    child.on('message', (message: T) => {
      if (key in (message as object)) resolve(message)
    })
    child.once('exit', (code) => reject(new Error(`a rank ended with ${code} before it said ${key}`)))
  })
}

function exited(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', resolve))
}

describe.each(TRANSPORT_KINDS)('%s', (kind) => {
  test(`kill -9 of a rank in mid-collective: every other rank names it ${SOON}`, async () => {
    const group = await ranks(kind, 4)
    const survivors = group.filter((_, rank) => rank !== 1)
    const errors = survivors.map((child) => said<Told>(child, 'error'))
    const exits = survivors.map(exited)
    for (const child of group) child.send({ run: 'loop' })
    await new Promise((resolve) => setTimeout(resolve, 300))
    const killed = Date.now()
    group[1]!.kill('SIGKILL')
    for (const { error, at } of await Promise.all(errors)) {
      expect(error).toMatchObject({ name: 'PeerFailedError', rank: 1 })
      expect(error!.message).toContain('rank 1 failed: its connection')
      expect(at! - killed).toBeLessThan(SOON_MS)
    }
    expect(await Promise.all(exits)).toEqual([0, 0, 0]) // and each of them can end, without close()
  })

  test(`kill -9 of a rank while nothing is in flight: the next collective fails ${SOON}`, async () => {
    const group = await ranks(kind, 3)
    const survivors = [group[0]!, group[2]!]
    const errors = survivors.map((child) => said<Told>(child, 'error'))
    const gone = exited(group[1]!)
    group[1]!.kill('SIGKILL')
    await gone
    await new Promise((resolve) => setTimeout(resolve, 200))
    const asked = Date.now()
    for (const child of survivors) child.send({ run: 'once' })
    for (const { error, at } of await Promise.all(errors)) {
      expect(error).toMatchObject({ name: 'PeerFailedError', rank: 1 })
      expect(at! - asked).toBeLessThan(SOON_MS)
    }
  })

  test('ranks whose scripts end without close() end as well', async () => {
    const group = await ranks(kind, 2)
    const exits = group.map(exited)
    for (const child of group) child.send({ run: 'once' })
    expect(await Promise.all(exits)).toEqual([0, 0])
  })

  test(`${ROUNDS} rounds of killing any rank at any time: named ${SOON}`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const size = 2 + (round % 3)
      const victim = Math.floor(Math.random() * size)
      const group = await ranks(kind, size, COUNTS[round % COUNTS.length])
      const survivors = group.filter((_, rank) => rank !== victim)
      const errors = survivors.map((child) => said<Told>(child, 'error'))
      const exits = survivors.map(exited)
      for (const child of group) child.send({ run: 'loop' })
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 200))
      const killed = Date.now()
      group[victim]!.kill('SIGKILL')
      for (const { error, at } of await Promise.all(errors)) {
        expect(error).toMatchObject({ name: 'PeerFailedError', rank: victim })
        expect(at! - killed).toBeLessThan(SOON_MS)
      }
      expect(new Set(await Promise.all(exits))).toEqual(new Set([0]))
    }
  }, 3_600_000)
})
