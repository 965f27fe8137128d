/** A job as a batch script of Slurm, for sbatch. Expects that all nodes see the directory in which it is submitted. */
import { LockstepError } from '../../src/errors.js'
import { type Job, quote } from './job.js'

export const slurm = {
  form: "a batch script: ddp-launch generate slurm … > job.sh, and in the project's directory sbatch job.sh",

  generate(job: Job, image: string | undefined): string {
    if (image !== undefined) throw new LockstepError('generate: --image is for kubernetes, not for slurm')
    const { name, nodes, cores, gpus, port, tokenFile, flags, script, scriptArguments } = job
    const [cpus, toTasks] =
      cores === undefined
        ? ['#SBATCH --exclusive', '"$SLURM_CPUS_ON_NODE"']
        : [`#SBATCH --cpus-per-task=${cores}`, String(cores)]
    const place = port === undefined ? [] : ['--master-port', String(port)]
    const words = [...flags, ...place, script, ...scriptArguments].map(quote)
    const lines = [
      '#!/bin/bash',
      `#SBATCH --job-name=${name}`,
      `#SBATCH --nodes=${nodes}`,
      '#SBATCH --ntasks-per-node=1',
      cpus,
      ...(gpus > 0 ? [`#SBATCH --gpus-per-node=${gpus}`] : []),
      `#SBATCH --signal=TERM@${job.graceSeconds}`,
      'set -euo pipefail',
      'export PATH="$PWD/node_modules/.bin:$PATH"',
      ...(tokenFile === undefined ? SECRET : [`token=${quote(tokenFile)}`]),
      `srun --cpus-per-task=${toTasks} ddp-launch --token-file "$token" ${words.join(' ')}`,
    ]
    return `${lines.join('\n')}\n`
  },
}

/** Made anew for each job, readable by its owner alone, in the directory that all nodes see. */
const SECRET = [
  'token="$PWD/.lockstep-$SLURM_JOB_ID.token"',
  `trap 'rm -f "$token"' EXIT`,
  '(umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d " \\n" > "$token")',
]
