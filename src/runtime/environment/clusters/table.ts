/**
 * The clusters whose launchers are understood: one file and one row each. Pure, from variables alone.
 */
import { kubeflow } from './kubeflow.js'
import { kubernetes } from './kubernetes.js'
import { openMpi } from './open-mpi.js'
import type { Cluster, Placement, Variables } from './placement.js'
import { pmi } from './pmi.js'
import { slurm } from './slurm.js'

/** Innermost first: mpirun runs in a job of Slurm, Kubeflow makes pods of Kubernetes. */
export const CLUSTERS: Readonly<Record<string, Cluster>> = { openMpi, pmi, kubeflow, kubernetes, slurm }

/** Undefined outside all clusters. @throws LockstepError naming a variable when one is only half there. */
export function findPlacement(env: Variables): Placement | undefined {
  for (const cluster of Object.values(CLUSTERS)) {
    const placement = cluster(env)
    if (placement !== undefined) return placement
  }
  return undefined
}
