/**
 * Connects the ranks over the fastest transport that all of them can have: shared memory on one host, on several the
 * network between them too, the network alone where memory cannot be shared or a host has no two ranks; on one host that
 * is Unix sockets. Every rank comes to the same answer, since each learns the others' hosts and reasons.
 */
import { LockstepError } from '../errors.js'
import type { Communicator } from './communicator.js'
import { connectHierarchical, findTopology } from './hierarchical-communicator.js'
import { connectSharedMemory } from './shared-memory/connect.js'
import { SharedMemoryUnavailable } from './shared-memory/system.js'
import { singleRank } from './single.js'
import { connectTcp, type TcpOptions } from './tcp-communicator.js'

export const TRANSPORTS = ['auto', 'shm', 'tcp', 'ws', 'unix'] as const

export interface ConnectOptions extends Omit<TcpOptions, 'kind'> {
  readonly transport?: (typeof TRANSPORTS)[number]
  /** The number of this rank's host among the hosts of the job. */
  readonly node?: number
  /** Told, on rank 0 alone, why the ranks do not share memory. */
  readonly onFallback?: (reason: string) => void
}

/**
 * @throws SharedMemoryUnavailable if `transport` is `shm` and cannot be had; LockstepError if it is `unix` on several hosts or
 *   on Windows; otherwise as `connectTcp`.
 */
export async function connectRanks(options: ConnectOptions): Promise<Communicator> {
  const { rank, size, transport = 'auto', node = 0, onFallback } = options
  if (size === 1) return singleRank()
  if (transport === 'tcp' || transport === 'ws') return connectTcp({ ...options, kind: transport })
  if (transport !== 'shm') {
    const topology = await findTopology({ ...options, node })
    const { hosts } = topology
    if (transport === 'unix') {
      requireOneHost(hosts)
      return connectTcp({ ...options, kind: 'unix' })
    }
    if (hosts.length === size) return connectTcp(options)
    if (hosts.length > 1) return connectHierarchical({ ...options, topology })
  }
  try {
    return await connectSharedMemory(options)
  } catch (error) {
    if (transport === 'shm' || !(error instanceof SharedMemoryUnavailable)) throw error
    if (rank === 0) onFallback?.(error.message)
    return connectTcp({ ...options, kind: process.platform === 'win32' ? 'tcp' : 'unix' })
  }
}

function requireOneHost(hosts: readonly (readonly number[])[]): void {
  if (process.platform === 'win32')
    throw new LockstepError('Windows has no Unix sockets: use the transport tcp')
  if (hosts.length === 1) return
  const [first, other] = hosts.map((ranks) => ranks[0])
  throw new LockstepError(
    `the transport unix is for ranks of one host: rank ${other} is not on that of rank ${first}; use auto or tcp`,
  )
}
