/** A real Slurm of two nodes on this machine (see slurm.sh), for tests. Debian: slurmctld, slurmd, slurm-client, munge. */
import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

const PROGRAMS = ['slurmctld', 'slurmd', 'srun', 'munged', 'ip', 'unshare']
const missing = PROGRAMS.filter((name) => spawnSync(name, ['--version']).error !== undefined)
/** Why there can be none here; undefined if there can. */
export const reason =
  process.getuid?.() !== 0 ? 'needs root' : missing.length > 0 ? `needs ${missing.join(', ')}` : undefined

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const TSX = join(ROOT, 'node_modules/tsx/dist/loader.mjs')
export const directory = mkdtempSync(join(tmpdir(), 'lockstep-test-'))
afterAll(() => rmSync(directory, { recursive: true }))
let count = 0

/** Runs a line of bash beside a fresh Slurm, in a directory of its own with `files` in it. */
export async function inSlurm(
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
