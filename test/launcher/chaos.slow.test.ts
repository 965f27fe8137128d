/**
 * A training job in which a random rank fails in a random way at a random moment. With restarts it ends with the
 * parameters of an undisturbed run; without, it ends soon and names that rank. A few rounds here, many with
 * `npm run test:launcher-chaos` (LAUNCHER_CHAOS_ROUNDS, LAUNCHER_CHAOS_SEED).
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fixture, launch } from './launch.js'

const ROUNDS = Number(process.env.LAUNCHER_CHAOS_ROUNDS ?? 2)
/** A new one each time where there are many rounds; `npm test` should do the same twice. */
const SEED = Number(process.env.LAUNCHER_CHAOS_SEED ?? (ROUNDS > 2 ? Date.now() % 1_000_000 : 4))
const WAYS = ['SIGKILL', 'SIGTERM', 'SIGSTOP', 'throw', 'memory', 'exit'] as const
const RANKS = 2
/** How long ranks wait for one that is stopped. */
const TIMEOUT_S = 3
const SOON_MS = 5000

const directory = mkdtempSync(join(tmpdir(), 'lockstep-chaos-'))
afterAll(() => rmSync(directory, { recursive: true }))
const fresh = () => mkdtempSync(join(directory, 'job-'))

async function train(here: string, flags: readonly string[], chaos = '') {
  const script = ['examples/mnist/train.ts', '--model', 'mlp', '--batch', '32', '--steps', '60']
  const keep = [
    '--checkpoint',
    join(here, 'checkpoints'),
    '--save-every',
    '10',
    '--json',
    join(here, 'result.json'),
  ]
  const env = {
    CHAOS: chaos,
    NODE_OPTIONS: `--max-old-space-size=150 --import ${pathToFileURL(fixture('chaos.mjs'))}`,
  }
  const startedAt = Date.now()
  const launched = await launch([...['--nproc', String(RANKS)], ...flags, ...script, ...keep], env)
  const result = join(here, 'result.json')
  const sha = existsSync(result) ? JSON.parse(readFileSync(result, 'utf8')).paramsSha256 : undefined
  return { ...launched, sha, endedAt: Date.now(), ms: Date.now() - startedAt }
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

describe(`a rank that fails at random (seed ${SEED}, ${ROUNDS} rounds)`, () => {
  let undisturbed: Awaited<ReturnType<typeof train>>
  beforeAll(async () => {
    undisturbed = await train(fresh(), [])
    expect(undisturbed.sha).toMatch(/^[0-9a-f]{64}$/)
  }, 120_000)

  const random = generator(SEED)
  const rounds = Array.from({ length: ROUNDS }, (_, round) => ({
    round,
    way: WAYS[Math.floor(random() * WAYS.length)]!,
    rank: Math.floor(random() * RANKS),
    moment: random(),
    restarts: round % 2 === 0,
  }))

  it.each(rounds)(
    'round $round: $way on rank $rank at $moment of the run, restarts: $restarts',
    {
      timeout: 180_000,
    },
    async ({ way, rank, moment, restarts }) => {
      const here = fresh()
      const file = join(here, 'failed-at')
      const chaos = `${way} ${rank} ${Math.round(moment * undisturbed.ms)} ${file}`
      const flags = ['--timeout', String(TIMEOUT_S), ...(restarts ? ['--max-restarts', '2'] : [])]
      const { code, sha, stderr, endedAt } = await train(here, flags, chaos)
      if (restarts || !existsSync(file)) {
        expect([code, sha], stderr).toEqual([0, undisturbed.sha])
        return
      }
      expect(code, stderr).not.toBe(0)
      const patience = SOON_MS + (way === 'SIGSTOP' ? TIMEOUT_S * 1000 : 0)
      expect(endedAt - Number(readFileSync(file, 'utf8'))).toBeLessThan(patience)
      const last = stderr.trimEnd().split('\n').at(-1)
      // Asked to end while it trains, it takes the others along: all save.
      if (code !== 143) expect(last).toMatch(new RegExp(`^ddp-launch: rank ${rank} `))
    },
  )
})
