/**
 * A communicator over the network: finds the other ranks, and connects with all of them in a worker thread.
 */
import { LockstepError } from '../errors.js'
import { worldChannel } from './channel.js'
import type { Communicator } from './communicator.js'
import { loadForeignMemory } from './foreign-memory.js'
import { CheckedCommunicator, type Runner } from './runner.js'
import { singleRank } from './single.js'
import type { Address, TransportKind } from './transports/mesh.js'
import { WorkerLink, WorkerRunner } from './worker-runner.js'

/** Where ranks learn each other's address: a key-value store that all of them see. */
export interface AddressExchange {
  set(key: string, value: string): Promise<void> | void
  /** Waits until the key is set. */
  get(key: string, timeoutMs: number): Promise<string>
}

export interface TcpOptions {
  readonly kind?: TransportKind
  readonly rank: number
  readonly size: number
  /** The job's secret, which every connection has to prove. */
  readonly token: string
  readonly exchange: AddressExchange
  /** The address of this host that the other ranks can reach. */
  readonly host?: string
  /** How long connecting may take, and how long a collective may make no progress. */
  readonly timeoutMs?: number
  /** Copies all numbers to the worker, as is done anyway where koffi is missing. */
  readonly staged?: boolean
}

/**
 * Connects this rank with all others: publishes `addr/<rank>` and looks up the others'.
 * @throws LockstepError naming the ranks that do not come within `timeoutMs`; PeerFailedError for one that came and left.
 */
export async function connectTcp(options: TcpOptions): Promise<Communicator> {
  return options.size === 1 ? singleRank() : new CheckedCommunicator(await connectTcpRunner(options))
}

/** The same for at least two ranks, without a communicator's checks in front. */
export async function connectTcpRunner(options: TcpOptions): Promise<Runner> {
  const {
    kind = 'tcp',
    rank,
    size,
    token,
    exchange,
    host = '127.0.0.1',
    timeoutMs = 60_000,
    staged = false,
  } = options
  const foreign = staged ? undefined : await loadForeignMemory()
  const link = new WorkerLink({ kind, rank, size, token, host, timeoutMs }, foreign)
  try {
    const { address } = await link.next('listening')
    await exchange.set(`addr/${rank}`, JSON.stringify(address))
    const addresses = Array.from({ length: size }, (_, peer) =>
      peer === rank ? address : lookUp(peer, options, timeoutMs),
    )
    link.post({ type: 'connect', addresses: await Promise.all(addresses) })
    await link.next('connected')
  } catch (error) {
    await link.terminate()
    throw error
  }
  link.settled()
  return new WorkerRunner(link, worldChannel(size), () => link.close())
}

async function lookUp(peer: number, { rank, exchange }: TcpOptions, timeoutMs: number): Promise<Address> {
  let text: string
  try {
    text = await exchange.get(`addr/${peer}`, timeoutMs)
  } catch (cause) {
    const what = `rank ${rank} waits for rank ${peer}, which has not said its address`
    throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
  }
  const { host, port } = JSON.parse(text) as Partial<Address>
  if (typeof host !== 'string' || typeof port !== 'number') {
    throw new LockstepError(`rank ${peer} published the address ${text}: expected {"host", "port"}`)
  }
  return { host, port }
}
