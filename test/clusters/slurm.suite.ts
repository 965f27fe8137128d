/** Jobs in a real Slurm of two nodes, on this machine (see slurm.sh). Debian: slurmctld, slurmd, slurm-client, munge. */
import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { generate } from '../../launcher/generate.js'
import { fixture, launch } from '../launcher/launch.js'

const PROGRAMS = ['slurmctld', 'slurmd', 'srun', 'munged', 'ip', 'unshare']
const missing = PROGRAMS.filter((name) => spawnSync(name, ['--version']).error !== undefined)
const reason =
  process.getuid?.() !== 0 ? 'needs root' : missing.length > 0 ? `needs ${missing.join(', ')}` : undefined

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TSX = join(ROOT, 'node_modules/tsx/dist/loader.mjs')
const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
let count = 0

/** Runs a line of bash beside a fresh Slurm, in a directory of its own with `files` in it. */
async function inSlurm(
  line: (here: string) => string,
  files: (here: string) => Record<string, string> = () => ({}),
) {
  const here = join(directory, String(count++))
  mkdirSync(join(here, 'bin'), { recursive: true })
  const launcher = join(here, 'bin/ddp-launch')
  writeFileSync(launcher, `#!/bin/sh\nexec node --import ${TSX} ${join(ROOT, 'launcher/main.ts')} "$@"\n`)
  chmodSync(launcher, 0o755)
  for (const [name, text] of Object.entries(files(here))) writeFileSync(join(here, name), text)
  const { PATH, HOME } = process.env
  const env = {
    ...{ PATH: `${join(here, 'bin')}:${PATH}`, HOME, TSX_DISABLE_CACHE: '1' },
    TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.source.json'),
  }
  const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  const script = fileURLToPath(new URL('slurm.sh', import.meta.url))
  const args = [...namespaces, 'bash', script, here, 'bash', '-c', line(here)]
  return new Promise<{ here: string; code: unknown; output: string }>((resolve) => {
    execFile('unshare', args, { cwd: here, env, timeout: 100_000 }, (error, stdout, stderr) => {
      resolve({ here, code: error?.code ?? 0, output: stdout + stderr })
    })
  })
}

const sumOf = (text: string) => /world 2 restarts \w+ sum (\S+)/.exec(text)?.[1]

describe.skipIf(reason !== undefined)(
  `two nodes of Slurm${reason ? ` (skipped: ${reason})` : ''}`,
  async () => {
    const plain = reason ? '' : (await launch(['--nproc', '2', fixture('train.ts'), directory])).stdout

    it('train together in the batch script that is generated, and leave no secret', async () => {
      const { here, output } = await inSlurm(
        () => 'sbatch -W --output out.txt job.sh; echo code $?; ls -a',
        (here) => ({
          'job.sh': generate('slurm', ['--nnodes', '2', '--threads', '1', fixture('train.ts'), here]) ?? '',
        }),
      )
      expect(output).toContain('code 0')
      expect(sumOf(readFileSync(join(here, 'out.txt'), 'utf8'))).toBe(sumOf(plain))
      expect(output).not.toContain('.token')
    })

    it('are ranks without ddp-launch, one per task', async () => {
      const { code, output } = await inSlurm(
        (here) =>
          `export LOCKSTEP_TOKEN=${'ab'.repeat(16)}; srun -N 2 --ntasks 2 node --import ${TSX} ${fixture('train.ts')} ${here}`,
      )
      expect([code, sumOf(output)]).toEqual([0, sumOf(plain)])
    })

    it('are not used by a batch script that does not say srun, which is one line', async () => {
      const { output } = await inSlurm(
        () =>
          `sbatch -W -N 2 --output out.txt --wrap 'ddp-launch ${fixture('environment.mjs')}'; cat out.txt`,
      )
      expect(output).toMatch(
        /^ddp-launch: Slurm gave this job 2 nodes .* expected `srun --ntasks-per-node 1/m,
      )
    })
  },
)
