/**
 * What a transport with connections has to bring: a door that connections come through, and the two halves of a link.
 * Two connections join each pair of ranks, one for each direction of data, and the receiver dials. Types only.
 */
import type { Duplex } from 'node:stream'
import type { Address } from './mesh.js'

/** The end that data come from, dialled by this rank. */
export interface Receiving {
  /** For the handshake: read from and written to until `start`. */
  readonly stream: Duplex
  /**
   * From now on all bytes, and first those that have come since the handshake, go to `deliver`; `space` says where the next
   * ones are wanted. `closed` is called once, after the last.
   */
  start(
    deliver: (bytes: Uint8Array) => void,
    space: () => Uint8Array | undefined,
    closed: (reason: string) => void,
  ): void
  /** From now on it keeps no process alive. */
  unref(): void
  destroy(): void
}

/** The end that data go to, accepted by this rank. */
export interface Sending {
  readonly stream: Duplex
  /** From now on nothing is read. `closed` is called once the connection is gone. */
  start(closed: () => void): void
  /** As `Transport.write`. */
  write(header: Uint8Array, payload: Uint8Array, left: () => void): void
  /** Sends what is written and says that it was the last; settles once that has left, or no longer can. */
  end(): Promise<void>
  /** From now on it keeps no process alive. */
  unref(): void
  destroy(): void
}

export interface Door {
  /** Listens at `host`, where the system chooses; `come` gets every connection, not yet proved to be anybody's. */
  open(host: string, come: (sending: Sending) => void): Promise<Address>
  /** Settles once the connection is there; rejects with the system's reason. */
  dial(address: Address): Promise<Receiving>
  /** Nobody else is let in. Those that came stay. */
  close(): void
}

/** How long a closing link has to send what was written. */
export const LINGER_MS = 1000
