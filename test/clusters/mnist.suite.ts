/** examples/mnist in Slurm and under mpirun: loss by loss what two ranks of one launcher have. */
import { execFile, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { generate } from '../../launcher/generate.js'
import { launch } from '../launcher/launch.js'
import { directory, inSlurm, ROOT, reason, TSX } from './slurm.js'

const hasOpenMpi = `${spawnSync('mpirun', ['--version'], { encoding: 'utf8' }).stdout}`.includes('Open MPI')
const SCRIPT = join(ROOT, 'examples/mnist/train.ts')

/** The arguments of a run of a few steps that writes its result to `file`. */
const training = (file: string) => ['--model', 'mlp', '--batch', '16', '--steps', '8', '--json', file]

function resultIn(file: string) {
  const { worldSize, losses, paramsSha256 } = JSON.parse(readFileSync(file, 'utf8'))
  return { worldSize, losses, paramsSha256 }
}

describe.skipIf(reason !== undefined && !hasOpenMpi)('examples/mnist', () => {
  let plain: ReturnType<typeof resultIn>

  beforeAll(async () => {
    const file = join(directory, 'plain.json')
    const { code, stderr } = await launch(['--nproc', '2', '--threads', '1', SCRIPT, ...training(file)])
    expect(code, stderr).toBe(0)
    plain = resultIn(file)
    expect(plain.losses).toHaveLength(8)
  }, 120_000)

  it.skipIf(reason !== undefined)(
    `on two nodes of Slurm${reason ? ` (skipped: ${reason})` : ''}`,
    async () => {
      const { here, output } = await inSlurm(
        () => 'sbatch -W --output out.txt job.sh; echo code $?; cat out.txt',
        (here) => {
          const args = ['--nnodes', '2', '--threads', '1', SCRIPT, ...training(join(here, 'result.json'))]
          return { 'job.sh': generate('slurm', args) ?? '' }
        },
      )
      expect(output).toContain('code 0')
      expect(resultIn(join(here, 'result.json'))).toEqual(plain)
    },
  )

  it.skipIf(!hasOpenMpi)(
    `as two ranks of mpirun${hasOpenMpi ? '' : ' (skipped: needs Open MPI)'}`,
    async () => {
      const file = join(directory, 'mpirun.json')
      const rank = [process.execPath, '--import', TSX, SCRIPT, ...training(file)]
      const { PATH, HOME } = process.env
      const env = {
        ...{ PATH, HOME, TSX_TSCONFIG_PATH: join(ROOT, 'tsconfig.source.json'), TSX_DISABLE_CACHE: '1' },
        ...{ OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' },
        ...{ OMPI_MCA_orte_tmpdir_base: directory, LOCKSTEP_TOKEN: 'ab'.repeat(16), LOCKSTEP_THREADS: '1' },
      }
      const error = await new Promise((resolve) => {
        const args = ['--oversubscribe', '-n', '2', ...rank]
        execFile('mpirun', args, { cwd: ROOT, env, timeout: 100_000 }, resolve)
      })
      expect(error).toBe(null)
      expect(resultIn(file)).toEqual(plain)
    },
  )
})
