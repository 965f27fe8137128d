/**
 * Ranks as real processes that share memory: sums of arrays in place and not, more ranks than cores, and ranks that are
 * killed. Whoever survives learns which rank it was, at once, and nothing is left behind.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import { compiled } from '../../compiled.js'
import type { Order, Report } from './rank-process.js'

const SCRIPT = compiled('test/collectives/shared-memory/rank-process.ts')
/** LOCKSTEP_CHAOS_ROUNDS=70 makes it the 200 rounds that a release is tested with. */
const ROUNDS = Number(process.env.LOCKSTEP_CHAOS_ROUNDS ?? 1)
/** 30 ms as a rule, a second is promised, and asserted by test:chaos; the timeout that must not end a wait is 20 s. */
const SOON_MS = process.env.LOCKSTEP_CHAOS_ROUNDS ? 1000 : 3000
const SOON = `within ${SOON_MS / 1000} s`
let processes: ChildProcess[] = []

afterEach(async () => {
  await Promise.all(processes.map((child) => end(child)))
  processes = []
})

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  child.kill('SIGKILL')
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

/** Starts `size` connected ranks, and passes on what they publish. */
async function ranks(size: number, env: Record<string, string> = {}): Promise<ChildProcess[]> {
  const group = Array.from({ length: size }, (_, rank) =>
    fork(SCRIPT, {
      execArgv: [],
      env: { ...process.env, ...env, RANK: `${rank}`, WORLD_SIZE: `${size}` },
    }),
  )
  processes.push(...group)
  for (const child of group) {
    child.on('message', (message: { set?: string }) => {
      if (message.set !== undefined) for (const other of group) other.send(message)
    })
  }
  await Promise.all(group.map((child) => said(child, 'ready')))
  return group
}

function said<K extends keyof Report>(child: ChildProcess, key: K): Promise<Report> {
  return new Promise((resolve, reject) => {
    child.on('message', (message: Report) => {
      if (key in message) resolve(message)
      else if (message.error) reject(new Error(message.error.message))
    })
    child.once('exit', (code) => reject(new Error(`a rank ended with ${code} before it said ${key}`)))
  })
}

function order(group: readonly ChildProcess[], what: Order): void {
  for (const child of group) child.send(what)
}

const shared = () => readdirSync('/dev/shm').filter((name) => name.includes('lockstep'))

describe.each([2, 4])('%i ranks', (size) => {
  const sum = (k: number) => (size * (size - 1)) / 2 + size * (k % 7)

  test.each([
    { what: 'in place', share: true, window: 2 ** 32 },
    { what: 'in place, in several memories', share: true, window: size * 131_072 },
    { what: 'through the buffers', share: false, window: 2 ** 32 },
  ])('sums arrays $what, larger than a buffer or a window', async ({ share, window }) => {
    const group = await ranks(size, { WINDOW_BYTES: `${window}` })
    const floats = 200_003
    const reports = group.map((child) => said(child, 'done'))
    order(group, { floats, times: 20, share })
    for (const { done } of await Promise.all(reports)) {
      expect([done!.first, done!.last]).toEqual([sum(0), sum(floats - 1)])
    }
    expect(shared()).toEqual([])
    const exits = group.map((child) => new Promise((resolve) => child.once('exit', resolve)))
    order(group, 'close')
    expect(await Promise.all(exits)).toEqual(group.map(() => 0))
  })
})

test('more ranks than cores: thousands of small sums in seconds', async () => {
  const group = await ranks(6)
  const started = Date.now()
  const reports = group.map((child) => said(child, 'done'))
  order(group, { floats: 100, times: 2000 })
  for (const { done } of await Promise.all(reports)) expect(done!.first).toBe(15)
  expect(Date.now() - started).toBeLessThan(15_000) // a pure spin takes a time slice, 3 ms, for most of 4000 waits
})

test('a rank that waits still runs its timers', async () => {
  const group = await ranks(2)
  const report = said(group[0]!, 'done')
  group[0]!.send({ floats: 10, times: 1 })
  await new Promise((resolve) => setTimeout(resolve, 300))
  group[1]!.send({ floats: 10, times: 1 })
  expect((await report).done!.ticks).toBeGreaterThan(10)
})

describe('a rank is killed', () => {
  test.each([
    { victim: 0, floats: 1000, share: false },
    { victim: 1, floats: 100_000, share: false },
    { victim: 3, floats: 1_000_000, share: true },
  ])(
    `in mid-collective, and named ${SOON}: rank $victim, $floats floats, shared: $share`,
    { timeout: ROUNDS * 20_000 },
    async ({ victim, ...what }) => {
      for (let round = 0; round < ROUNDS; round++) {
        const group = await ranks(4)
        const survivors = group.filter((_, rank) => rank !== victim)
        const reports = survivors.map((child) => said(child, 'at'))
        order(group, what)
        await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 100))
        const killed = Date.now()
        group[victim]!.kill('SIGKILL')
        for (const { error, at } of await Promise.all(reports)) {
          expect(error).toMatchObject({ name: 'PeerFailedError', rank: victim })
          expect(error!.message).toMatch(`rank ${victim} failed: its process ended while rank`)
          expect(at! - killed).toBeLessThan(SOON_MS)
        }
        expect(shared()).toEqual([])
        await Promise.all(group.map(end))
      }
    },
  )

  test(`while nothing is in flight: the next collective fails ${SOON}`, async () => {
    const group = await ranks(3)
    const gone = new Promise((resolve) => group[1]!.once('exit', resolve))
    group[1]!.kill('SIGKILL')
    await gone
    const asked = Date.now()
    const reports = [group[0]!, group[2]!].map((child) => said(child, 'at'))
    order([group[0]!, group[2]!], { floats: 10 })
    for (const { error, at } of await Promise.all(reports)) {
      expect(error).toMatchObject({ name: 'PeerFailedError', rank: 1 })
      expect(at! - asked).toBeLessThan(SOON_MS)
    }
  })

  test('a rank that ends its script without close() is one that failed', async () => {
    const group = await ranks(2)
    const report = said(group[0]!, 'at')
    group[0]!.send({ floats: 10 })
    group[1]!.send('exit')
    expect((await report).error).toMatchObject({ name: 'PeerFailedError', rank: 1 })
  })
})
