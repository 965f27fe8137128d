/**
 * Ranks as real processes on emulated hosts (network.ts), at 1 Gbit/s: what they compute, how many bytes cross the network,
 * and how failures end. Timings are printed, not judged: `RECORD=1` writes them to bench/results/multi-host.json.
 *
 *   npm run test:multi-host         as root, with iproute2; says why where it cannot run
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { circumstances, median, rounded, saveResult } from '../../bench/record.js'
import { eventually } from '../launcher/launch.js'
import { Network, whyNot } from './network.js'
import type { Answer, Order, Place } from './rank.js'

const RANK = fileURLToPath(new URL('./rank.ts', import.meta.url))
const ELASTIC = fileURLToPath(new URL('./elastic.ts', import.meta.url))
/** Bytes a second: all of GIGABIT, as if there were no headers. */
const LINE = 1e9 / 8
const MIB = 2 ** 20
const figures: Record<string, unknown> = {}
const reason = whyNot()

describe.skipIf(reason !== undefined)(
  `emulated hosts${reason === undefined ? '' : ` (skipped: ${reason})`}`,
  () => {
    let network: Network
    let ranks: Rank[] = []

    beforeAll(() => {
      network = new Network(2)
      process.once('exit', remove) // also when the run is interrupted
    })
    afterEach(async () => {
      await Promise.all(ranks.map((rank) => rank.end()))
      ranks = []
    })
    afterAll(() => {
      remove()
      console.log(JSON.stringify(figures, undefined, 2))
      if (process.env.RECORD) {
        saveResult('multi-host', { ...circumstances('RECORD=1 npm run test:multi-host'), ...figures })
      }
    })
    const remove = () => network.remove()

    /** `perHost` ranks on each host, connected. */
    async function start(perHost: number, timeoutMs = 20_000): Promise<Rank[]> {
      const size = network.size * perHost
      ranks = Array.from({ length: size }, (_, rank) => {
        const node = Math.floor(rank / perHost)
        return new Rank(network.on(node), { rank, size, node, host: network.address(node), timeoutMs })
      })
      for (const rank of ranks) rank.publishTo(ranks)
      const names = await Promise.all(ranks.map((rank) => rank.answer()))
      const expected = perHost === 1 ? 'CheckedCommunicator' : 'HierarchicalCommunicator'
      expect(names.map(({ communicator }) => communicator)).toEqual(ranks.map(() => expected))
      return ranks
    }

    const all = (order: Order) => Promise.all(ranks.map((rank) => rank.obey(order)))

    /** Sums, and how many bytes each host has sent meanwhile. */
    async function sums(floats: number, times: number) {
      const before = [0, 1].map((host) => network.sentBytes(host))
      const answers = await all({ do: 'sum', floats, times })
      for (const { wrong, error } of answers)
        expect({ wrong, error }).toEqual({ wrong: -1, error: undefined })
      expect(new Set(answers.map(({ sha256 }) => sha256)).size).toBe(1)
      const payload = answers.reduce((sum, { bytesSent }) => sum + bytesSent!, 0)
      return { payload, wire: [0, 1].map((host) => network.sentBytes(host) - before[host]!) }
    }

    test('two ranks a host: same sums, and a host sends no more than with one rank', async () => {
      const [floats, times] = [1_000_003, 5]
      await start(1)
      const ring = await sums(floats, times)
      await Promise.all(ranks.map((rank) => rank.end()))
      await start(2)
      const hierarchical = await sums(floats, times)
      expect(hierarchical.payload).toBe(ring.payload)
      // Headers and acknowledgements differ a little from run to run.
      for (const host of [0, 1]) expect(hierarchical.wire[host]! / ring.wire[host]!).toBeLessThanOrEqual(1.01)
      figures.wireBytes = {
        hosts: 2,
        arrayBytes: floats * 4,
        times,
        oneRankAHost: ring.wire,
        twoRanksAHost: hierarchical.wire,
      }
    })

    test('16 MiB: how much of the line is used, beside plain sockets', async () => {
      const fastest = async (order: Order) => Math.min(...(await all(order))[0]!.times!)
      const rows: Record<string, object> = {}
      const row = (ms: number) => ({
        fastestMs: rounded(ms),
        shareOfTheLine: rounded((16 * MIB) / LINE / (ms / 1000), 3),
      })
      for (const perHost of [1, 2]) {
        await start(perHost)
        rows[`all-reduce, ${perHost} ranks a host`] = row(
          await fastest({ do: 'time', bytes: 16 * MIB, rounds: 20 }),
        )
        if (perHost === 1)
          rows['plain sockets'] = row(await fastest({ do: 'stream', bytes: 16 * MIB, rounds: 20 }))
        await Promise.all(ranks.map((rank) => rank.end()))
      }
      figures.line16MiB = rows
    })

    test('ddp-launch on each host: trains as four ranks on one host do', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lockstep-multi-host-'))
      try {
        await launch([], ['--nproc', '4'], join(folder, 'one.json'))
        const meeting = ['--nnodes', '2', '--nproc', '2', '--rdzv-endpoint', `${network.address(0)}:29500`]
        const there = [0, 1].map((host) => launch(network.on(host), meeting, join(folder, 'two.json')))
        await Promise.all(there)
        const [one, two] = ['one', 'two'].map((name) =>
          JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')),
        )
        expect(two.worldSize).toBe(4)
        one.losses.forEach((loss: number, i: number) => {
          expect(Math.abs(two.losses[i] - loss)).toBeLessThan(1e-4 * loss) // sums in another order
        })
      } finally {
        rmSync(folder, { recursive: true })
      }
    })

    test('a host is cut off for 10 s: the other goes on alone from the checkpoint, and takes it back', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lockstep-multi-host-'))
      // Silence of 2.5 s is a lost node, long before the cable is back.
      const flags = ['--nnodes', '1:2', '--nproc', '1', '--max-restarts', '2', '--monitor-interval', '0.5']
      const meeting = ['--rdzv-endpoint', `${network.address(0)}:29500`, '--timeout', '20']
      const script = [ELASTIC, folder]
      const nodes = [0, 1].map((host) => {
        const prefix = [...network.on(host), process.execPath, '--import', 'tsx', 'launcher/main.ts']
        return startLauncher([...prefix, ...flags, ...meeting, '--node-rank', `${host}`, ...script])
      })
      const said = (world: number, attempt: number) =>
        eventually(() => nodes[0]!.output.stdout.includes(`attempt ${attempt} world ${world} `), 60_000)
      try {
        await said(2, 0)
        network.unplug(1)
        const pulledAt = Date.now()
        await said(1, 1)
        const aloneMs = Date.now() - pulledAt
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, 10_000 - aloneMs)))
        network.plug(1)
        const pluggedAt = Date.now()
        await said(2, 2)
        figures['cut off for 10 s'] = { aloneMs, togetherAgainMs: Date.now() - pluggedAt }
        writeFileSync(join(folder, 'enough'), '')
        const [home, away] = await Promise.all(nodes.map(({ done }) => done))
        expect([home!.code, away!.code], home!.stderr + away!.stderr).toEqual([0, 0])
        expect(away!.stderr).toMatch(
          /is silent since \d+ s: this node's ranks were stopped, and start again if/,
        )
        // Each attempt began where a checkpoint was: no step is lost that was saved, none done that was not.
        const begins = [...home!.stdout.matchAll(/attempt (\d) world (\d) from step (\d+)/g)].map((line) =>
          Number(line[3]),
        )
        expect(begins).toEqual(begins.toSorted((a, b) => a - b))
        expect(begins[2]).toBeGreaterThan(begins[1]!)
      } finally {
        network.plug(1)
        for (const { child } of nodes) child.kill('SIGKILL')
        await Promise.all(nodes.map(({ done }) => done))
        rmSync(folder, { recursive: true })
      }
    })

    test('a rank that computes keeps sending', async () => {
      await start(1)
      const bytes = 4 * Math.floor((LINE * 0.04) / 4) // 40 ms of the line
      const [sending] = await all({ do: 'time', bytes, rounds: 20 })
      const [both] = await all({ do: 'overlap', bytes, computeMs: 40, rounds: 20 })
      figures.overlap = {
        computeMs: 40,
        allReduceMs: spread(sending!.times!),
        togetherMs: spread(both!.times!),
      }
    })

    test.each([1, 2])(
      'kill -9 with %i ranks a host: all others name the rank within a second',
      async (perHost) => {
        await start(perHost)
        const victim = ranks.at(-1)!
        const survivors = ranks.slice(0, -1).map((rank) => rank.obey({ do: 'loop', floats: 300_000 }))
        victim.obey({ do: 'loop', floats: 300_000 }).catch(() => {})
        await new Promise((resolve) => setTimeout(resolve, 500))
        const killed = Date.now()
        victim.kill()
        for (const { error, at } of await Promise.all(survivors)) {
          expect(error).toMatchObject({ name: 'PeerFailedError', rank: ranks.length - 1 })
          expect(at! - killed).toBeLessThan(1000)
        }
      },
    )

    test.each([1, 2])(
      'a pulled cable, %i ranks a host: with a timeout of 3 s both sides name the other within 4.5 s',
      async (perHost) => {
        const timeoutMs = 3000
        await start(perHost, timeoutMs)
        const looping = ranks.map((rank) => rank.obey({ do: 'loop', floats: 300_000 }))
        await new Promise((resolve) => setTimeout(resolve, 500))
        const pulled = Date.now()
        network.unplug(1)
        const answers = await Promise.all(looping).finally(() => network.plug(1))
        const waits = answers.map(({ at }) => at! - pulled)
        for (const [rank, { error }] of answers.entries()) {
          expect(error!.message).toMatch(/made no progress for 3 s/)
          const beyond = ranks.flatMap((_, other) => (other < perHost === rank < perHost ? [] : [other]))
          expect(error!.message).toMatch(
            new RegExp(`rank [${beyond.join('')}] does not answer|from rank [${beyond.join('')}]`),
          )
        }
        for (const ms of waits) expect(ms).toBeLessThan(timeoutMs + 1500) // with the half second to ask the others
        figures[`pulled cable, ${perHost} a host`] = { timeoutMs, noticedMs: waits }
      },
    )
  },
)

/** The machine may be busy with other things: the fastest says what is possible. */
function spread(times: readonly number[]) {
  return { fastest: rounded(Math.min(...times)), median: rounded(median(times)) }
}

/** Trains an MLP with ddp-launch, run by the command `prefix`; rank 0 writes its losses to `file`. */
async function launch(prefix: readonly string[], flags: readonly string[], file: string): Promise<void> {
  const options = ['--model', 'mlp', '--batch', '32', '--steps', '20', '--json', file]
  const launcher = [process.execPath, '--import', 'tsx', 'launcher/main.ts']
  const script = ['examples/mnist/train.ts', ...options]
  const { code, stderr } = await startLauncher([...prefix, ...launcher, ...flags, ...script]).done
  if (code !== 0) throw new Error(`ddp-launch ${flags.join(' ')} ended with ${code}:\n${stderr}`)
}

function startLauncher([command, ...args]: readonly string[]) {
  const child = spawn(command!, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TSX_TSCONFIG_PATH: 'tsconfig.source.json', LOCKSTEP_TOKEN: 'ab'.repeat(32) },
  })
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text
    })
  }
  const done = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, ...output }))
  })
  return { child, output, done }
}

/** One rank's process on its host. */
class Rank {
  readonly #process: ChildProcess
  readonly #answers: Answer[] = []
  readonly #waiting: { resolve(answer: Answer): void; reject(error: Error): void }[] = []
  readonly #published: ((message: unknown) => void)[] = []

  constructor(prefix: readonly string[], place: Place) {
    const [command, ...args] = [...prefix, process.execPath, '--import', 'tsx', RANK, JSON.stringify(place)]
    // `ip netns exec` becomes node, so the channel arrives there.
    this.#process = spawn(command!, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#process.on('message', (message: Answer & { set?: string }) => {
      if (message.set !== undefined) for (const publish of this.#published) publish(message)
      else if (this.#waiting.length > 0) this.#waiting.shift()!.resolve(message)
      else this.#answers.push(message)
    })
    this.#process.once('exit', (code, signal) => {
      for (const { reject } of this.#waiting.splice(0)) {
        reject(new Error(`rank ${place.rank} ended with ${signal ?? code}`))
      }
    })
  }

  publishTo(ranks: readonly Rank[]): void {
    for (const rank of ranks) this.#published.push((message) => rank.#process.send(message as object))
  }

  answer(): Promise<Answer> {
    const answer = this.#answers.shift()
    if (answer) return Promise.resolve(answer)
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  obey(order: Order): Promise<Answer> {
    this.#process.send(order)
    return this.answer()
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const gone = new Promise((resolve) => this.#process.once('exit', resolve))
    this.kill()
    await gone
  }
}
