/**
 * A communicator over the network: finds the other ranks, and connects with all of them in a worker thread.
 */
import { LockstepError } from '../errors.js'
import { worldChannel } from './channel.js'
import type { Communicator } from './communicator.js'
import { toRecord } from './failures.js'
import { loadForeignMemory } from './foreign-memory.js'
import { CheckedCommunicator, type Runner } from './runner.js'
import { singleRank } from './single.js'
import { Station } from './station.js'
import { listen } from './transports/listen.js'
import type { Address, Mesh, TransportKind } from './transports/mesh.js'
import type { Protection } from './wire/tls.js'
import { WorkerLink } from './worker-link.js'
import { WorkerRunner } from './worker-runner.js'

/** Where ranks learn each other's address: a key-value store that all of them see. */
export interface AddressExchange {
  set(key: string, value: string): Promise<void> | void
  /** Waits until the key is set. */
  get(key: string, timeoutMs: number): Promise<string>
}

export interface TcpOptions extends Protection {
  readonly kind?: TransportKind
  readonly rank: number
  readonly size: number
  readonly exchange: AddressExchange
  /** The address of this host that the other ranks can reach. */
  readonly host?: string
  /** How long connecting may take, and how long a collective may make no progress. */
  readonly timeoutMs?: number
  /** Does without koffi, as where it is missing: copies numbers to the worker, and leaves sockets to Node's streams. */
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
    tls,
    exchange,
    host = '127.0.0.1',
    timeoutMs = 60_000,
    staged = false,
  } = options
  const foreign = staged ? undefined : await loadForeignMemory()
  const mesh = { rank, size, token, tls, host, timeoutMs, streams: staged }
  const link = new WorkerLink({ ...mesh, kind }, foreign)
  let near: Mesh | undefined
  try {
    const listening = link.next('listening')
    listening.catch(() => {}) // awaited below
    near = await listen(kind, mesh)
    const { address } = await listening
    const card: Card = { ...address, inPlace: foreign !== undefined }
    await Promise.all([
      exchange.set(`addr/${rank}`, JSON.stringify(card)),
      exchange.set(`near/${rank}`, JSON.stringify(near.address)),
    ])
    const [far, nearby] = await Promise.all([lookUpAll('addr', options), lookUpAll('near', options)])
    if (!far.every(({ inPlace }) => inPlace)) link.alwaysStage()
    link.post({ type: 'connect', addresses: far })
    const [transport] = await Promise.all([near.connect(nearby), link.next('connected')])
    transport.unref?.() // what is in flight keeps the process alive, wherever that is
    const station = new Station(transport, timeoutMs, {
      failed: (error) => link.post({ type: 'abort', failure: toRecord(error) }),
      ask: (channel, graceMs) => link.ask(channel, graceMs),
    })
    link.failed = (error) => station.abort(error, false)
    link.settled()
    return new WorkerRunner(station, link, worldChannel(size))
  } catch (error) {
    near?.close()
    await link.terminate()
    throw error
  }
}

/** What a rank publishes of its worker. */
interface Card extends Address {
  /** Whether it can use arrays where they are: how a large collective is cut depends on that, and must be the same on all. */
  readonly inPlace?: boolean
}

function lookUpAll(name: string, options: TcpOptions): Promise<Card[]> {
  return Promise.all(
    Array.from({ length: options.size }, (_, peer) => lookUp(`${name}/${peer}`, peer, options)),
  )
}

async function lookUp(key: string, peer: number, options: TcpOptions): Promise<Card> {
  const { rank, exchange, timeoutMs = 60_000 } = options
  let text: string
  try {
    text = await exchange.get(key, timeoutMs)
  } catch (cause) {
    const what = `rank ${rank} waits for rank ${peer}, which has not said its address`
    throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
  }
  const { host, port, inPlace } = JSON.parse(text) as Partial<Card>
  if (typeof host !== 'string' || typeof port !== 'number') {
    throw new LockstepError(`rank ${peer} published the address ${text}: expected {"host", "port"}`)
  }
  return { host, port, inPlace: inPlace === true }
}
