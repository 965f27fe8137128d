/**
 * TCP connections. The receiver dials, because only a socket that this side made can be given `onread`, its own buffer to
 * read into, which is half as fast again as `data` events; an accepted one cannot.
 */
import type { AddressInfo, ListenOptions, NetConnectOpts, Server, Socket } from 'node:net'
import { connected, createListener, dial, type Protection } from '../wire/tls.js'
import { type Door, LINGER_MS, type Receiving, type Sending } from './link.js'
import type { Address } from './mesh.js'

const READ_BYTES = 256 * 1024

export class TcpDoor implements Door {
  readonly #protection: Protection
  #server: Server | undefined

  constructor(protection: Protection) {
    this.#protection = protection
  }

  async open(host: string, come: (sending: Sending) => void): Promise<Address> {
    const server = await this.listen({ host, port: 0 }, come)
    return { host, port: (server.address() as AddressInfo).port }
  }

  dial({ host, port }: Address): Promise<Receiving> {
    return this.connect({ host, port })
  }

  protected listen(where: ListenOptions, come: (sending: Sending) => void): Promise<Server> {
    const server = createListener(this.#protection, (socket) => come(new TcpSending(socket)))
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(where, () => resolve(server))
    })
  }

  protected async connect(where: NetConnectOpts): Promise<Receiving> {
    const receiving = new TcpReceiving(where, this.#protection)
    await connected(receiving.stream)
    return receiving
  }

  close(): void {
    this.#server?.close()
  }
}

class TcpReceiving implements Receiving {
  readonly stream: Socket
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  #deliver: ((bytes: Uint8Array) => void) | undefined
  #space: () => Uint8Array | undefined = () => undefined

  constructor(where: NetConnectOpts, protection: Protection) {
    const onread = {
      // Asked after each read where the next one goes: straight to where the numbers are wanted, if that is known.
      buffer: () => this.#space() ?? this.#buffer,
      callback: (count: number, buffer: Uint8Array) => this.#read(count, buffer),
    }
    this.stream = dial({ ...where, noDelay: true, onread }, protection)
  }

  start(
    deliver: (bytes: Uint8Array) => void,
    space: () => Uint8Array | undefined,
    closed: (reason: string) => void,
  ): void {
    const { stream } = this
    stream.on('error', (error) => closed(`its connection failed (${error.message})`))
    stream.on('end', () => closed('its connection closed'))
    stream.on('close', () => closed('its connection closed'))
    for (let early = stream.read(); early !== null; early = stream.read()) deliver(early)
    this.#deliver = deliver
    this.#space = space
    stream.resume()
    if (stream.destroyed) queueMicrotask(() => closed('its connection closed'))
  }

  unref(): void {
    this.stream.unref()
  }

  destroy(): void {
    this.stream.destroy()
  }

  // `buffer` is read into again as soon as this returns: whoever wants to keep bytes copies them.
  #read(count: number, buffer: Uint8Array): boolean {
    const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, count)
    if (!this.#deliver) return this.stream.push(Buffer.from(bytes))
    this.#deliver(bytes)
    return true
  }
}

class TcpSending implements Sending {
  readonly stream: Socket

  constructor(socket: Socket) {
    this.stream = socket
  }

  start(closed: () => void): void {
    this.stream.on('error', () => {}) // 'close' follows
    this.stream.on('close', closed)
    this.stream.resume()
  }

  write(header: Uint8Array, payload: Uint8Array, left: () => void): void {
    const { stream } = this
    if (!stream.writable) queueMicrotask(left)
    else if (payload.length === 0) stream.write(header, left)
    else {
      stream.cork()
      stream.write(header)
      stream.write(payload, left)
      stream.uncork()
    }
  }

  end(): Promise<void> {
    const { stream } = this
    return new Promise((resolve) => {
      if (stream.destroyed) return resolve()
      const timer = setTimeout(resolve, LINGER_MS)
      const done = () => {
        clearTimeout(timer)
        resolve()
      }
      stream.once('finish', done).once('close', done)
      stream.end()
    })
  }

  unref(): void {
    this.stream.unref()
  }

  destroy(): void {
    this.stream.destroy()
  }
}
