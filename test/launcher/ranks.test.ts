import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { eventually, fixture, isAlive, launch, start } from './launch.js'

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true })
})

/** A directory that is removed after the test. */
function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
  directories.push(directory)
  return directory
}

interface Seen {
  readonly env: Record<string, string>
  readonly argv: string[]
  /** The launcher's and the rank's, as every user of the machine can read them. */
  readonly commandLines: string
}

/** What fixtures/environment.mjs has printed, in rank order. */
function seen(stdout: string): Seen[] {
  const lines = stdout.trim().split('\n').sort()
  return lines.map((line) => JSON.parse(line.replace(/^\[\d+\] /, '')))
}

describe('ranks', () => {
  it('see who they are, and only their own arguments', async () => {
    const { code, stdout, stderr } = await launch([
      ...['--nproc', '3', '--timeout', '7', fixture('environment.mjs'), '--nproc', '9', 'ä b'],
    ])
    expect([code, stderr]).toEqual([0, ''])
    const ranks = seen(stdout)
    expect(ranks).toHaveLength(3)
    const threads = String(Math.max(1, Math.floor(availableParallelism() / 3)))
    ranks.forEach(({ env, argv }, rank) => {
      expect(argv).toEqual(['--nproc', '9', 'ä b'])
      expect(env).toEqual({
        ...{
          RANK: String(rank),
          LOCAL_RANK: String(rank),
          WORLD_SIZE: '3',
          LOCAL_WORLD_SIZE: '3',
          GROUP_RANK: '0',
        },
        ...{
          MASTER_ADDR: '127.0.0.1',
          MASTER_PORT: ranks[0]!.env.MASTER_PORT,
          LOCKSTEP_TIMEOUT: '7',
          LOCKSTEP_TRANSPORT: 'auto',
          LOCKSTEP_ADDR: '127.0.0.1',
        },
        ...{ LOCKSTEP_RESTART_COUNT: '0', LOCKSTEP_MAX_RESTARTS: '0' },
        ...{ LOCKSTEP_RUN_ID: expect.stringMatching(/^\d{8}-\d{6}-[0-9a-f]{4}$/) },
        ...{
          LOCKSTEP_TOKEN: expect.stringMatching(/^[0-9a-f]{64}$/),
          LOCKSTEP_LIVE: '0',
          LOCKSTEP_TLS: 'off',
        },
        ...{ LOCKSTEP_THREADS: threads, OMP_NUM_THREADS: threads },
      })
    })
    expect(new Set(ranks.map(({ env }) => env.LOCKSTEP_TOKEN)).size).toBe(1)
  })

  it.skipIf(process.platform !== 'linux')('have the token on no command line', async () => {
    const token = 'correct horse battery'
    const { stdout } = await launch(['--nproc', '2', fixture('environment.mjs')], { LOCKSTEP_TOKEN: token })
    for (const { env, commandLines } of seen(stdout)) {
      expect(commandLines).toMatch(/launcher\/main\.js.*environment\.mjs.*environment\.mjs/)
      for (const secret of [token, env.LOCKSTEP_TOKEN!]) expect(commandLines).not.toContain(secret)
    }
  })

  it('get one GPU each, of those that the user shows', async () => {
    const bin = temporary()
    const tool = '#!/bin/sh\nfor i in 0 1 2; do echo "GPU $i: NVIDIA H200 (UUID: GPU-$i)"; done\n'
    writeFileSync(join(bin, 'nvidia-smi'), tool)
    chmodSync(join(bin, 'nvidia-smi'), 0o755)
    const { code, stdout } = await launch(['--nproc', 'gpu', fixture('environment.mjs')], {
      PATH: `${bin}:${process.env.PATH}`,
      CUDA_VISIBLE_DEVICES: '2,0',
    })
    expect(code).toBe(0)
    expect(seen(stdout).map(({ env }) => [env.WORLD_SIZE, env.CUDA_VISIBLE_DEVICES])).toEqual([
      ['2', '2'],
      ['2', '0'],
    ])
  })

  it('run TypeScript, also from a directory that has no tsx', async () => {
    const directory = temporary()
    writeFileSync(join(directory, 'script.mts'), 'const n: number = await 41\nconsole.log(n + 1)\n')
    expect(await launch([fixture('typed.ts')])).toMatchObject({
      code: 0,
      stdout: '[0] typed 42\n',
      stderr: '',
    })
    expect(await launch([join(directory, 'script.mts')])).toMatchObject({ code: 0, stdout: '[0] 42\n' })
  })

  it('are never torn in mid-line, nor in mid-character', async () => {
    const { code, stdout, stderr } = await launch(['--nproc', '3', fixture('speak.mjs')])
    expect(code).toBe(0)
    const lines = stdout.split('\n')
    expect(lines.pop()).toBe('')
    for (const rank of [0, 1, 2]) {
      const own = lines.filter((line) => line.startsWith(`[${rank}] `)).map((line) => line.slice(4))
      const expected = Array.from(
        { length: 300 },
        (_, i) => `${rank}:${i}:${'äöü€😀'.repeat((i * 37) % 400)}:end`,
      )
      expect(own).toEqual([...expected, `last words of ${rank} €`])
    }
    expect(stderr.trim().split('\n').sort()).toEqual(
      [0, 1, 2].map((rank) => `[${rank}] to stderr from ${rank}`),
    )
  })

  it('have shown all that they wrote, also to a slow reader and just before they end', async () => {
    const job = start([fixture('flood.mjs')])
    job.child.stdout!.pause()
    await eventually(() => job.output.stderr.includes('written'))
    job.child.stdout!.resume()
    const { code, stdout } = await job.done
    expect(code).toBe(3)
    expect(stdout.length).toBe(3_000_000 + '[0] \n[0] last\n'.length)
  })

  it('write live lines that only a terminal shows', async () => {
    expect(await launch([fixture('live.mjs')])).toMatchObject({ code: 0, stdout: '[0] epoch 1 done\n' })
  })

  it('handle their uncaught exceptions themselves if they want to', async () => {
    expect(await launch([fixture('own-handler.mjs')])).toMatchObject({
      code: 0,
      stdout: '[0] handled on purpose\n[0] and lived on\n',
    })
  })

  it('hear of the errors of their worker threads, as without a launcher', async () => {
    expect(await launch([fixture('worker.mjs')])).toMatchObject({
      ...{ code: 0, stdout: '[0] heard: in a worker\n', stderr: '' },
    })
  })

  it('leave no child behind that outlives them', async () => {
    const { code, stdout } = await launch([fixture('leaves-a-child.mjs')])
    expect(code).toBe(0)
    expect(isAlive(Number(/pid (\d+)/.exec(stdout)?.[1]))).toBe(false)
  })

  it.each([
    ['broken.ts', 'export const a: number = 1\nconst b: = 2\n', /broken\.ts:2:10: Unexpected "="$/],
    ['broken.mjs', 'export const a = 1\nconst b = = 2\n', /broken\.mjs:2:11: Unexpected token '='$/],
    ['broken.cjs', 'const b = = 2\n', /broken\.cjs:1:11: Unexpected token '='$/],
    [
      'lost.mjs',
      'import "./nowhere.mjs"\n',
      /Cannot find module '.*nowhere\.mjs' imported from .*lost\.mjs$/,
    ],
    [
      'lost.mts',
      'import "no-such-package"\n',
      /Cannot find (module|package) 'no-such-package' imported from .*lost\.mts$/,
    ],
    [
      'name.mjs',
      'import { nothing } from "node:os"\n',
      /name\.mjs:1:10: .*does not provide an export named 'nothing'$/,
    ],
    ['await.ts', 'await Promise.resolve()\n', /await\.ts:1:1: Top-level await.*name the script \.mts/],
  ])('whose script does not load say so in one line: %s', async (name, source, message) => {
    const script = join(temporary(), name)
    writeFileSync(script, source)
    const { code, stdout, stderr } = await launch(['--nproc', '2', script])
    expect(stderr).toMatch(
      /^ddp-launch: (ranks 0 and 1|rank \d \(pid \d+\)) failed with exit code 2: [^\n]+\n$/,
    )
    expect(stderr.trimEnd()).toMatch(message)
    expect([code, stdout]).toEqual([2, ''])
  })
})
