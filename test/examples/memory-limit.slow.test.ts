/**
 * A GPT whose state does not fit into what one rank may take trains on four: the kernel refuses each process more data than
 * that (RLIMIT_DATA, by util-linux' prlimit).
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SCRIPT = fileURLToPath(new URL('../../examples/gpt/train.ts', import.meta.url))
const MAIN = fileURLToPath(new URL('../../launcher/main.ts', import.meta.url))
const LIMIT = 640 * 2 ** 20
/** 25 million parameters: 100 MB, and 400 MB with gradients and Adam's two moments. */
const MODEL = ['--layers', '8', '--width', '512', '--batch', '4', '--context', '8', '--steps', '2']

const directory = mkdtempSync(join(tmpdir(), 'lockstep-memory-'))
afterAll(() => rmSync(directory, { recursive: true }))

const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0

async function run(nproc: number, ...args: string[]) {
  const json = join(directory, 'result.json')
  const launcher = [process.execPath, '--import', 'tsx', MAIN, '--nproc', String(nproc), '--timeout', '300']
  // The ranks inherit the launcher's limit.
  const child = spawn(
    'prlimit',
    [`--data=${LIMIT}`, ...launcher, SCRIPT, ...MODEL, ...args, '--json', json],
    {
      cwd: ROOT,
      env: { ...process.env, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.source.json') },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'close')])
  return { code, stderr, json }
}

test.skipIf(!hasPrlimit)(
  'one rank may not have so much, and four with zero 3 need less',
  { timeout: 900_000 },
  async () => {
    const one = await run(1)
    expect(one.code).toBe(2)
    expect(one.stderr).toMatch(
      /cannot reserve 0.47 GiB for parameters, gradients and optimizer state: .*; start fewer ranks on this machine/,
    )
    const four = await run(4, '--zero', '3')
    expect(four.code, four.stderr).toBe(0)
    const { losses, stateBytesPerRank } = JSON.parse(readFileSync(four.json, 'utf8'))
    expect(losses).toHaveLength(2)
    expect(stateBytesPerRank).toBeLessThan(120e6)
  },
)
