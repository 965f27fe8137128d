/**
 * Slurm: what srun tells each task of a step (srun(1), "OUTPUT ENVIRONMENT VARIABLES"). Outside a step, as in a batch
 * script, a process has the job's first node to itself.
 */
import { LockstepError } from '../../../errors.js'
import { type Cluster, DEFAULT_PORT, exactly, reader, type Variables } from './placement.js'

/** Jobs that share a node should not want one port. Below what systems hand out (32768 and more). */
const PORTS = 1000

export const slurm: Cluster = (env) => {
  if (env.SLURM_JOB_ID === undefined) return undefined
  if (env.SLURM_STEP_NUM_TASKS === undefined) return refuseUnused(env)
  const { integer, text } = reader('Slurm', env, 'SLURM_JOB_ID', 'srun')
  const tasks = integer('SLURM_STEP_NUM_TASKS', 1)
  const job = Number(text('SLURM_JOB_ID', /^\d{1,10}$/, 'a number'))
  return {
    cluster: 'Slurm',
    nodes: exactly(tasks),
    nodeRank: integer('SLURM_PROCID', 0, tasks - 1),
    endpoint: {
      host: firstHost(text('SLURM_STEP_NODELIST', /^[^\s,[]/, 'a list of hosts')),
      port: DEFAULT_PORT + (job % PORTS),
    },
  }
}

/** The job's first node where this is a job, for launchers that do not say which node is the first. */
export function slurmHost(env: Variables): string | undefined {
  return env.SLURM_JOB_NODELIST === undefined ? undefined : firstHost(env.SLURM_JOB_NODELIST)
}

/** `gpu[007-010,12],cpu1` -> `gpu007`. */
export function firstHost(list: string): string {
  const [first = ''] = list.split(/,(?![^[]*\])/)
  return first.replaceAll(/\[([^\],-]+)[^\]]*\]/g, '$1')
}

function refuseUnused(env: Variables): undefined {
  const nodes = Number(env.SLURM_JOB_NUM_NODES ?? 1)
  if (!(nodes > 1)) return undefined
  throw new LockstepError(
    `Slurm gave this job ${nodes} nodes (SLURM_JOB_NUM_NODES), but srun did not start this process: expected \`srun --ntasks-per-node 1 ddp-launch …\` (to use one node only, ddp-launch --standalone, or unset SLURM_JOB_ID)`,
  )
}
