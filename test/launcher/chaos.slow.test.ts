/**
 * A training job in which a rank fails in some way at some moment. With restarts it ends with the parameters of an
 * undisturbed run; without, it ends soon and names that rank. Either way it leaves nothing. Any 60 seeds in a row have
 * every way at every moment, with restarts and without.
 *
 *   npm run test:launcher-chaos          100 rounds, a line each; LAUNCHER_CHAOS_SEED, LAUNCHER_CHAOS_ROUNDS: others
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileInto } from '../compiled.js'
import { eventually, fixture, start } from './launch.js'

const ROUNDS = Number(process.env.LAUNCHER_CHAOS_ROUNDS ?? 2)
/** Of the first round. The next is one more. */
const SEED = Number(process.env.LAUNCHER_CHAOS_SEED ?? 0)
const RANKS = 2
const WAYS = ['SIGKILL', 'SIGTERM', 'SIGSTOP', 'throw', 'memory', 'exit'] as const
/** How long after such a moment a rank fails, at most: start-up until the first step, others until they are over. */
const MOMENTS = { 'start-up': undefined, step: 5, collective: 2, checkpoint: 40, shutdown: 60 }
type Moment = keyof typeof MOMENTS
/** How long ranks wait for one that is stopped; for others, which may only be slow to start, longer. */
const [TIMEOUT_S, PATIENT_S] = [2, 20]
const SOON_MS = 5000

const directory = mkdtempSync(join(tmpdir(), 'lockstep-chaos-'))
afterAll(() => rmSync(directory, { recursive: true }))

interface Undisturbed {
  readonly sha256: string
  /** How often rank 0 came to each moment, and when first. */
  readonly moments: Record<Exclude<Moment, 'start-up'>, { count: number; firstMs: number }>
}

interface Round {
  readonly way: (typeof WAYS)[number]
  readonly moment: Moment
  readonly rank: number
  readonly restarts: boolean
  /** Each 0 … 1. */
  readonly nth: number
  readonly delay: number
  /** How often that rank fails. */
  readonly times: number
  readonly background: boolean
}

function roundOf(seed: number): Round {
  const random = generator(seed)
  const moments = Object.keys(MOMENTS) as Moment[]
  const restarts = Math.floor(seed / 30) % 2 === 0
  return {
    way: WAYS[seed % 6]!,
    moment: moments[Math.floor(seed / 6) % 5]!,
    restarts,
    rank: Math.floor(random() * RANKS),
    nth: random(),
    delay: random(),
    times: restarts && random() < 0.2 ? 2 : 1,
    background: random() < 0.3,
  }
}

describe(`a rank that fails (${ROUNDS} rounds)`, () => {
  let launcher: string
  let undisturbed: Undisturbed

  /** Trains in a directory of its own, and sees to it that nothing is left of the job. */
  async function train(
    name: string,
    flags: readonly string[],
    chaos: (file: string) => object,
    background = false,
  ) {
    const here = join(directory, name)
    const [temporary, file] = [join(here, 'tmp'), join(here, 'chaos')]
    mkdirSync(temporary, { recursive: true })
    const script = join(directory, 'package/chaos-train.mjs')
    const preload = `--max-old-space-size=120 --import ${pathToFileURL(fixture('chaos.mjs'))}`
    const env = {
      TMPDIR: temporary,
      CHAOS: JSON.stringify(chaos(file)),
      BACKGROUND: background ? '1' : '0',
      NODE_OPTIONS: preload,
    }
    const shared = readdirSync('/dev/shm')
    const launched = await start(['--nproc', String(RANKS), ...flags, script, here], env, [launcher]).done
    const endedAt = Date.now()
    await eventually(() => processesWith(`TMPDIR=${temporary}`).length === 0, 3000).catch(() => {
      throw new Error(`still running: ${processesWith(`TMPDIR=${temporary}`).join('; ')}\n${launched.stderr}`)
    })
    expect(readdirSync(temporary)).toEqual([])
    expect(readdirSync('/dev/shm').filter((left) => !shared.includes(left))).toEqual([])
    const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined)
    return { ...launched, here, endedAt, sha256: read(join(here, 'sha256')), noted: read(file) }
  }

  beforeAll(async () => {
    launcher = await compileInto(join(directory, 'package'))
    copyFileSync(fixture('chaos-train.mjs'), join(directory, 'package/chaos-train.mjs'))
    const { sha256, noted, stderr } = await train('undisturbed', [], (counts) => ({ counts }))
    expect(sha256, stderr).toMatch(/^[0-9a-f]{64}$/)
    undisturbed = { sha256: sha256!, moments: JSON.parse(noted!) }
  }, 120_000)

  for (let seed = SEED; seed < SEED + ROUNDS; seed++) {
    const { way, moment, rank, restarts, nth, delay, times, background } = roundOf(seed)
    const how = restarts ? `${times === 2 ? 'twice ' : ''}with restarts` : 'without'
    it(`seed ${seed}: ${way} on rank ${rank} during ${moment}, ${how}`, { timeout: 60_000 }, async () => {
      const { moments } = undisturbed
      const isStart = moment === 'start-up'
      const plan = {
        ...{ way, rank, moment, times },
        nth: isStart ? 1 : 1 + Math.floor(nth * moments[moment].count),
        delayMs: delay * (MOMENTS[moment] ?? moments.step.firstMs),
      }
      const timeout = way === 'SIGSTOP' ? TIMEOUT_S : PATIENT_S
      const flags = ['--timeout', String(timeout), ...(restarts ? ['--max-restarts', '3'] : [])]
      const run = await train(`seed-${seed}`, flags, (file) => ({ ...plan, file }), background)
      const { here, code, stderr, sha256, endedAt, noted } = run
      const story = `${JSON.stringify(plan)}\n${stderr}`
      // It may have been over before it was to fail, and one that is asked to end (SIGTERM) when all is done ends well.
      const isWell = restarts || noted === undefined || (way === 'SIGTERM' && code === 0)
      if (isWell) {
        expect([code, sha256], story).toEqual([0, undisturbed.sha256])
        const kept = readdirSync(join(here, 'checkpoints'))
        expect(kept.filter((name) => !/^step-\d{8}$/.test(name))).toEqual([])
        return
      }
      expect(code, story).not.toBe(0)
      const patience = SOON_MS + (way === 'SIGSTOP' ? TIMEOUT_S * 1000 : 0)
      expect(endedAt - Number(noted), story).toBeLessThan(patience)
      expect(stderr.trimEnd().split('\n').at(-1), story).toMatch(new RegExp(`^ddp-launch: rank ${rank} `))
    })
  }
})

/** What runs with that in its environment: "pid command line". */
function processesWith(variable: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      const isOurs = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(variable)
      return isOurs ? [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`] : []
    } catch {
      return [] // it has ended just now, or is somebody else's
    }
  })
}

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
