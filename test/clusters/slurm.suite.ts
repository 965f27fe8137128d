/** Jobs in a real Slurm of two nodes, on this machine. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { generate } from '../../launcher/generate.js'
import { fixture, launch } from '../launcher/launch.js'
import { directory, inSlurm, reason, TSX } from './slurm.js'

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
