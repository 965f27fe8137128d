/**
 * Ways to make a group of connected ranks in this process: the rows of the conformance suite. A new transport adds one.
 */
import type { Communicator } from '../../src/collectives/communicator.js'
import {
  connectHierarchical,
  type HierarchicalOptions,
} from '../../src/collectives/hierarchical-communicator.js'
import { topologyOf } from '../../src/collectives/hierarchical-topology.js'
import { inThread } from '../../src/collectives/in-thread-communicator.js'
import { connectSharedMemory } from '../../src/collectives/shared-memory/connect.js'
import { singleRank } from '../../src/collectives/single.js'
import { type AddressExchange, connectTcp } from '../../src/collectives/tcp-communicator.js'
import { memoryTransports } from '../../src/collectives/transports/memory.js'
import type { TransportKind } from '../../src/collectives/transports/mesh.js'

export interface GroupKind {
  readonly name: string
  connect(size: number, timeoutMs?: number): Promise<Communicator[]>
}

/** Ranks in a group. Four take as long as all others together: npm run test:slow. */
export const SIZES = process.env.SLOW ? [1, 2, 3, 4] : [1, 2, 3]

export const TOKEN = 'c0ffee'

export const GROUPS: readonly GroupKind[] = [
  {
    name: 'memory',
    connect: async (size, timeoutMs = 10_000) =>
      memoryTransports(size).map((transport) => inThread(transport, { timeoutMs })),
  },
  { name: 'tcp', connect: (size, timeoutMs) => connected('tcp', size, timeoutMs) },
  { name: 'ws', connect: (size, timeoutMs) => connected('ws', size, timeoutMs) },
  // All of TCP's code but for the address.
  ...(process.env.SLOW
    ? [{ name: 'unix', connect: (size: number, timeoutMs?: number) => connected('unix', size, timeoutMs) }]
    : []),
  {
    // Not blocking, as all ranks are in one thread; buffers so small that most arrays go through them in pieces.
    name: 'shared memory',
    connect: (size, timeoutMs = 10_000) => {
      const exchange = mapExchange()
      const waiting = { spins: 0, yields: 0, blocks: false }
      const options = { size, exchange, timeoutMs, waiting, stageBytes: 65_536 }
      const ranks = Array.from({ length: size }, (_, rank) => rank)
      return Promise.all(ranks.map((rank) => connectSharedMemory({ rank, ...options })))
    },
  },
  // Ranks in this process that are told to be on two hosts: three are one and two, four are the even and the odd ones.
  {
    name: 'hierarchical',
    connect: async (size, timeoutMs = 10_000) =>
      size === 1
        ? [singleRank()]
        : onHosts(['a', 'b', size === 3 ? 'b' : 'a', 'b'].slice(0, size), { timeoutMs }),
  },
]

/** One rank on each of the hosts of these names. */
export function onHosts(
  names: readonly string[],
  options: Partial<HierarchicalOptions> = {},
  of: (rank: number) => Partial<HierarchicalOptions> = () => ({}),
): Promise<Communicator[]> {
  const { set, get } = mapExchange()
  const exchange = { set, get: (key: string) => get(key, 20_000) } // a short timeout is for operations
  const sharing = { waiting: { spins: 0, yields: 0, blocks: false }, stageBytes: 65_536 }
  const common = { size: names.length, token: TOKEN, exchange, timeoutMs: 10_000, sharing, ...options }
  return Promise.all(
    names.map((_, rank) =>
      connectHierarchical({ ...common, rank, topology: topologyOf(names, rank), ...of(rank) }),
    ),
  )
}

function connected(kind: TransportKind, size: number, timeoutMs = 10_000): Promise<Communicator[]> {
  const exchange = mapExchange()
  const ranks = Array.from({ length: size }, (_, rank) => rank)
  return Promise.all(ranks.map((rank) => connectTcp({ kind, rank, size, token: TOKEN, exchange, timeoutMs })))
}

/** A key-value store in this process' memory. */
export function mapExchange(): AddressExchange {
  const values = new Map<string, string>()
  const waiting = new Map<string, ((value: string) => void)[]>()
  return {
    set(key, value) {
      values.set(key, value)
      for (const resolve of waiting.get(key) ?? []) resolve(value)
      waiting.delete(key)
    },
    get(key, timeoutMs) {
      const value = values.get(key)
      if (value !== undefined) return Promise.resolve(value)
      return new Promise((resolve, reject) => {
        waiting.set(key, [...(waiting.get(key) ?? []), resolve])
        setTimeout(() => reject(new Error(`${key} was not set within ${timeoutMs} ms`)), timeoutMs).unref()
      })
    },
  }
}

/** Runs one call per rank and returns every rank's error; a rank that had none is a failure of the test. */
export async function errorsOf(calls: readonly Promise<unknown>[]): Promise<(Error & { rank?: number })[]> {
  const outcomes = await Promise.allSettled(calls)
  return outcomes.map((outcome, rank) => {
    if (outcome.status === 'fulfilled') throw new Error(`rank ${rank} had no error`)
    return outcome.reason
  })
}

export function closeAll(group: readonly Communicator[]): Promise<unknown> {
  return Promise.all(group.map((communicator) => communicator.close()))
}
