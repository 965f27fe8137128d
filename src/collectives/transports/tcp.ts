/**
 * TCP: two connections per pair of ranks, one for each direction. It refuses to connect them (tcp-mesh.ts does).
 *
 * The receiver dials. Only a socket that this side made can be given `onread`, its own buffer to read into, which
 * is half as fast again as `data` events; an accepted one cannot. So each rank reads on what it dialled and writes
 * on what it accepted.
 */
import { connect, type Socket } from 'node:net'
import type { Transport, TransportEvents } from '../transport.js'

const READ_BYTES = 256 * 1024
/** How long the receiving half of a link has to say why the sending half broke. */
const EXPLAIN_MS = 250
/** How long a closing link has to send what was written. */
const LINGER_MS = 1000

/** The receiving half of a link. Until `start` its bytes go to the socket's own buffer, for `read`. */
export class Receiving {
  readonly socket: Socket
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  #deliver: ((bytes: Uint8Array) => void) | undefined
  #space: () => Uint8Array | undefined = () => undefined

  constructor(host: string, port: number) {
    this.socket = connect({
      host,
      port,
      noDelay: true,
      onread: {
        // Asked after each read where the next one goes: straight to where the numbers are wanted, if that is known.
        buffer: () => this.#space() ?? this.#buffer,
        callback: (count, buffer) => this.#read(count, buffer),
      },
    })
  }

  /** From now on all bytes, and first those that have come since the handshake, go to `deliver`. */
  start(deliver: (bytes: Uint8Array) => void, space: () => Uint8Array | undefined): void {
    for (let early = this.socket.read(); early !== null; early = this.socket.read()) deliver(early)
    this.#deliver = deliver
    this.#space = space
    this.socket.resume()
  }

  // `buffer` is read into again as soon as this returns: whoever wants to keep bytes copies them.
  #read(count: number, buffer: Uint8Array): boolean {
    const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, count)
    if (!this.#deliver) return this.socket.push(Buffer.from(bytes))
    this.#deliver(bytes)
    return true
  }
}

/** Both halves of the link to one peer. */
export interface TcpLink {
  readonly receiving: Receiving
  readonly sending: Socket
}

export class TcpTransport implements Transport {
  readonly rank: number
  readonly size: number
  readonly #links: readonly (TcpLink | undefined)[]
  #events: TransportEvents | undefined

  /** `links` by rank, with none at this rank's own. */
  constructor(rank: number, links: readonly (TcpLink | undefined)[]) {
    this.rank = rank
    this.size = links.length
    this.#links = links
  }

  start(events: TransportEvents): void {
    this.#events = events
    this.#links.forEach((link, peer) => {
      if (link) this.#listen(peer, link)
    })
  }

  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void): void {
    const socket = this.#links[peer]!.sending
    if (!socket.writable) queueMicrotask(left)
    else if (payload.length === 0) socket.write(header, left)
    else {
      socket.cork()
      socket.write(header)
      socket.write(payload, left)
      socket.uncork()
    }
  }

  disconnect(peer: number): void {
    const { receiving, sending } = this.#links[peer]!
    receiving.socket.destroy()
    sending.destroy()
  }

  async close(): Promise<void> {
    this.#events = undefined
    const links = this.#links.filter((link) => link !== undefined)
    await Promise.all(links.map(({ sending }) => ended(sending)))
    for (const { receiving, sending } of links) {
      receiving.socket.destroy()
      sending.destroy()
    }
  }

  #listen(peer: number, { receiving, sending }: TcpLink): void {
    let over = false
    const closed = (reason: string) => {
      if (over) return
      over = true
      this.#events?.closed(peer, reason)
    }
    const { socket } = receiving
    socket.on('error', (error) => closed(`its connection failed (${error.message})`))
    socket.on('end', () => closed('its connection closed'))
    socket.on('close', () => closed('its connection closed'))
    receiving.start(
      (bytes) => this.#events?.bytes(peer, bytes),
      () => this.#events?.space(peer),
    )
    if (socket.destroyed) queueMicrotask(() => closed('its connection closed'))

    // Nothing is expected on the sending half. If it breaks, the other one usually knows why, in order.
    sending.on('error', () => {})
    sending.on('close', () => {
      setTimeout(() => closed('its connection broke'), EXPLAIN_MS).unref()
    })
    sending.resume()
  }
}

/** Settles once all that was written to `socket` has left, or cannot leave any more. */
function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve()
    const timer = setTimeout(resolve, LINGER_MS)
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    socket.once('finish', done).once('close', done)
    socket.end()
  })
}
