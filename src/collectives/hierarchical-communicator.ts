/**
 * Connects ranks on several hosts: all with each other over the network, and those of one host in shared memory too.
 * Where a host cannot share memory, no host does: then everything goes over the network.
 */
import { hostname } from 'node:os'
import { LockstepError } from '../errors.js'
import type { Communicator } from './communicator.js'
import { HierarchicalRunner } from './hierarchical-runner.js'
import { type Topology, topologyOf } from './hierarchical-topology.js'
import { CheckedCommunicator } from './runner.js'
import type { SharedMemoryCommunicator } from './shared-memory/communicator.js'
import { connectSharedMemory, hostIdentity, type SharedMemoryOptions } from './shared-memory/connect.js'
import { SharedMemoryUnavailable } from './shared-memory/system.js'
import { connectTcpRunner, type TcpOptions } from './tcp-communicator.js'

export interface HierarchicalOptions extends TcpOptions {
  readonly topology: Topology
  /** Told, on rank 0 alone, why no host's ranks share memory. */
  readonly onFallback?: (reason: string) => void
  /** How ranks of one host share memory. */
  readonly sharing?: Pick<SharedMemoryOptions, 'waiting' | 'stageBytes' | 'windowBytes' | 'load'>
}

type Place = Pick<TcpOptions, 'rank' | 'size' | 'exchange' | 'timeoutMs'>

/**
 * Learns who is on which host: on one are the ranks that were given the same number for it (`node`), unless they see
 * different kernels or process numbers.
 */
export async function findTopology(place: Place & { readonly node: number }): Promise<Topology> {
  const name = `${place.node} ${process.platform === 'linux' ? hostIdentity() : hostname()}`
  return topologyOf(await tellAll('host', name, place), place.rank)
}

/** @throws as `connectTcp` and `connectSharedMemory`, but for SharedMemoryUnavailable. */
export async function connectHierarchical(options: HierarchicalOptions): Promise<Communicator> {
  const { rank, topology, onFallback } = options
  const { shared, reason } = await shareWithinHost(options)
  try {
    const links = await connectTcpRunner(options)
    const refusal = (await tellAll('memory', reason ?? '', options)).find((reason) => reason !== '')
    if (refusal === undefined) return new HierarchicalCommunicator(links, shared, topology)
    await shared?.close()
    if (rank === 0) onFallback?.(refusal)
    return new CheckedCommunicator(links)
  } catch (error) {
    await shared?.close()
    throw error
  }
}

class HierarchicalCommunicator extends CheckedCommunicator {
  /** As wide as the host: whether the array is shared may differ from host to host. */
  readonly share?: (data: Float32Array) => Promise<string | undefined>

  constructor(
    links: ConstructorParameters<typeof HierarchicalRunner>[0],
    shared: SharedMemoryCommunicator | undefined,
    topology: Topology,
  ) {
    super(new HierarchicalRunner(links, shared, topology))
    if (shared) this.share = (data) => shared.share(data)
  }
}

interface Sharing {
  readonly shared?: SharedMemoryCommunicator
  /** Why not. */
  readonly reason?: string
}

async function shareWithinHost(options: HierarchicalOptions): Promise<Sharing> {
  const { topology, exchange, sharing, timeoutMs = 60_000 } = options
  const { host, place } = topology
  if (host.length === 1) return {}
  const key = (name: string) => `host-of-${host[0]}/${name}`
  try {
    const shared = await connectSharedMemory({
      ...sharing,
      rank: place,
      size: host.length,
      names: host,
      timeoutMs,
      exchange: {
        set: (name, value) => exchange.set(key(name), value),
        get: (name, timeout) => exchange.get(key(name), timeout),
      },
    })
    return { shared }
  } catch (error) {
    if (!(error instanceof SharedMemoryUnavailable)) throw error
    return { reason: error.message }
  }
}

/** Every rank's `value`. */
async function tellAll(
  what: string,
  value: string,
  { rank, size, exchange, timeoutMs = 60_000 }: Place,
): Promise<string[]> {
  await exchange.set(`${what}/${rank}`, value)
  const told = async (_: unknown, peer: number) => {
    try {
      return await exchange.get(`${what}/${peer}`, timeoutMs)
    } catch (cause) {
      const missing = `rank ${rank} waits for rank ${peer}, which has not said its ${what}`
      throw new LockstepError(`${missing}: ${(cause as Error).message}`, { cause })
    }
  }
  return Promise.all(Array.from({ length: size }, told))
}
