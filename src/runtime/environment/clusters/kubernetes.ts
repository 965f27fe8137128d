/**
 * Kubernetes Indexed Jobs, also those of a JobSet: each pod knows its index (kubernetes.io, "Jobs", completion mode), and
 * nothing of the others. How many they are and where the first is stands in the manifest, as --nnodes and --rdzv-endpoint.
 */
import { type Cluster, reader } from './placement.js'

export const kubernetes: Cluster = (env) => {
  if (env.JOB_COMPLETION_INDEX === undefined) return undefined
  const { integer } = reader('a Kubernetes Indexed Job', env, 'JOB_COMPLETION_INDEX', 'Kubernetes')
  return {
    cluster: 'Kubernetes',
    nodes: undefined,
    nodeRank: integer('JOB_COMPLETION_INDEX', 0),
    endpoint: undefined,
  }
}
