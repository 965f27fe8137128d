/**
 * PMI-1: what MPICH's mpiexec (Hydra) tells each process, and Intel MPI's, which is made of it (RFC 13 of Flux, "Simple
 * Process Manager Interface v1"). It does not say which host is the first: that is this one where all are on one.
 */
import { type Cluster, DEFAULT_PORT, exactly, reader } from './placement.js'
import { slurmHost } from './slurm.js'

export const pmi: Cluster = (env) => {
  // Slurm sets PMI_* too, for a step with --mpi=pmi2; what it says itself says more.
  if (env.PMI_SIZE === undefined || env.SLURM_STEP_NUM_TASKS === env.PMI_SIZE) return undefined
  const { integer } = reader('MPICH', env, 'PMI_SIZE', 'mpiexec')
  const size = integer('PMI_SIZE', 1)
  const host = env.MPI_LOCALNRANKS === env.PMI_SIZE ? '127.0.0.1' : slurmHost(env)
  return {
    cluster: 'MPICH',
    nodes: exactly(size),
    nodeRank: integer('PMI_RANK', 0, size - 1),
    endpoint: host === undefined ? undefined : { host, port: DEFAULT_PORT },
  }
}
