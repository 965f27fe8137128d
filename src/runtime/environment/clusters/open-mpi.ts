/**
 * Open MPI: what mpirun tells each process (docs.open-mpi.org, "Environment variables set for MPI applications"). It does
 * not say which host is the first: that is this one where all are on one, else where mpirun runs (Open MPI 4 says it), or
 * Slurm's first.
 */
import { type Cluster, DEFAULT_PORT, exactly, reader } from './placement.js'
import { slurmHost } from './slurm.js'

export const openMpi: Cluster = (env) => {
  if (env.OMPI_COMM_WORLD_SIZE === undefined) return undefined
  const { integer } = reader('Open MPI', env, 'OMPI_COMM_WORLD_SIZE', 'mpirun')
  const size = integer('OMPI_COMM_WORLD_SIZE', 1)
  const isOneHost = integer('OMPI_COMM_WORLD_LOCAL_SIZE', 1, size) === size
  const host = isOneHost ? '127.0.0.1' : (slurmHost(env) ?? addressOf(env.OMPI_MCA_orte_hnp_uri))
  return {
    cluster: 'Open MPI',
    nodes: exactly(size),
    nodeRank: integer('OMPI_COMM_WORLD_RANK', 0, size - 1),
    endpoint: host === undefined ? undefined : { host, port: DEFAULT_PORT },
  }
}

/** `1306918912.0;tcp://192.0.2.2,10.0.0.2:48067;tcp6://…` -> `192.0.2.2`. */
function addressOf(uri: string | undefined): string | undefined {
  return /;tcp:\/\/([\d.]+)/.exec(uri ?? '')?.[1]
}
