/**
 * What the cluster says, for what the user did not: number of nodes, this node's rank, where the first one is. Pure.
 */
import { LockstepError } from '../../src/errors.js'
import {
  DEFAULT_PORT,
  type Placement,
  type Variables,
} from '../../src/runtime/environment/clusters/placement.js'
import { findPlacement } from '../../src/runtime/environment/clusters/table.js'
import type { Given } from '../options/table.js'

/**
 * @param given by flags, variables or a file: all of it wins.
 * @throws LockstepError when cluster and user together do not say enough.
 */
export function place(given: Given, env: Variables): Given {
  if (given.standalone || given.nnodes?.max === 1) return given
  const placement = findPlacement(env)
  if (placement === undefined) return given
  const nodes = given.nnodes ?? placement.nodes ?? refuseUnknownCount(placement)
  const ranks = given.nproc ?? given['nproc-per-node'] ?? placement.nproc
  const counted: Given = { ...given, nnodes: nodes, ...(ranks === undefined ? {} : { nproc: ranks }) }
  return nodes.max === 1 ? counted : seated(counted, nodes.max, placement, env)
}

function seated(given: Given, count: number, placement: Placement, env: Variables): Given {
  const { nodeRank, endpoint, cluster } = placement
  const rank = given['node-rank'] ?? nodeRank
  if (given['node-rank'] === undefined && nodeRank !== undefined && nodeRank >= count) {
    throw new LockstepError(
      `${cluster} numbers this node ${nodeRank}, --nnodes is ${count}: expected as many ddp-launch as nodes, or --node-rank`,
    )
  }
  const { 'master-addr': host, 'master-port': port, 'rdzv-endpoint': whole, ...others } = given
  const first = host ?? whole?.host ?? endpoint?.host
  if (first === undefined) {
    throw new LockstepError(
      `${cluster} does not say which of ${count} nodes is the first: give --rdzv-endpoint HOST:PORT, an address of the node with rank 0`,
    )
  }
  const place = {
    host: atHome(first, rank, env),
    port: port ?? whole?.port ?? endpoint?.port ?? DEFAULT_PORT,
  }
  return { ...others, ...(rank === undefined ? {} : { 'node-rank': rank }), 'rdzv-endpoint': place }
}

/** A pod knows its own short name from the start; its full one is in DNS only a moment later. */
function atHome(host: string, rank: number | undefined, { HOSTNAME }: Variables): string {
  return rank === 0 && HOSTNAME && host.startsWith(`${HOSTNAME}.`) ? HOSTNAME : host
}

function refuseUnknownCount({ cluster, nodeRank }: Placement): never {
  throw new LockstepError(
    `${cluster} numbers this node ${nodeRank} but does not say how many there are: give --nnodes and --rdzv-endpoint HOST:PORT, or --standalone for a job of this node alone`,
  )
}
