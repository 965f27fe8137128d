/**
 * What it takes to connect all ranks with each other, the same for every transport that has addresses.
 */
import type { Transport } from '../transport.js'
import type { Protection } from '../wire/tls.js'

export const TRANSPORT_KINDS = ['tcp', 'ws', 'unix'] as const
export type TransportKind = (typeof TRANSPORT_KINDS)[number]

export interface MeshOptions extends Protection {
  readonly rank: number
  readonly size: number
  /** The address to listen on. */
  readonly host: string
  /** How long all ranks together have to connect, in milliseconds. */
  readonly timeoutMs: number
  /** Leaves sockets to Node's streams, as is done anyway where koffi is missing or they are encrypted. */
  readonly streams?: boolean
}

/** Of a Unix socket the path, and port 0. */
export interface Address {
  readonly host: string
  readonly port: number
}

export function placeOf({ host, port }: Address): string {
  return port === 0 ? host : `${host}:${port}`
}

/** One rank that listens, until it is connected with all others. */
export interface Mesh {
  readonly address: Address
  /**
   * Dials every rank at `addresses` (by rank; one's own is not used) and waits until every rank has dialled this one.
   * Then nobody is listened to any more.
   * @throws LockstepError naming the ranks that did not come in time, PeerFailedError for one that cannot be reached.
   */
  connect(addresses: readonly Address[]): Promise<Transport>
  /** Gives everything up: the port and whatever has been connected. */
  close(): void
}
