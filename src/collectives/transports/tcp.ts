/**
 * TCP connections. The receiver dials, because only a socket that this side made can be given `onread`, its own buffer to
 * read into, which is half as fast again as `data` events; an accepted one cannot. Where system calls can be had
 * (socket-calls.ts), large blocks are sent and received by those, and streams only wait.
 */
import type { AddressInfo, ListenOptions, NetConnectOpts, Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { connected, createListener, dial, type Protection } from '../wire/tls.js'
import { type Door, LINGER_MS, type Receiving, type Sending } from './link.js'
import type { Address } from './mesh.js'
import { descriptorOf, loadSocketCalls, type SocketCalls } from './socket-calls.js'

const READ_BYTES = 256 * 1024
/** Reads of our own after one of the stream's: then others get a turn. */
const READS = 16

export class TcpDoor implements Door {
  readonly #protection: Protection
  readonly #bare: boolean
  #server: Server | undefined
  #calls: SocketCalls | undefined

  /** `streams`: does without system calls. */
  constructor(protection: Protection, streams = false) {
    this.#protection = protection
    this.#bare = streams
  }

  async open(host: string, come: (sending: Sending) => void): Promise<Address> {
    const server = await this.listen({ host, port: 0 }, come)
    return { host, port: (server.address() as AddressInfo).port }
  }

  dial({ host, port }: Address): Promise<Receiving> {
    return this.connect({ host, port })
  }

  protected async listen(where: ListenOptions, come: (sending: Sending) => void): Promise<Server> {
    const calls = this.#bare ? undefined : await loadSocketCalls()
    // What is encrypted has to go through the stream, and then all of it may at once.
    if (this.#protection.tls === undefined) this.#calls = calls
    const server = createListener(this.#protection, (socket) => {
      calls?.unpace(socket)
      come(new TcpSending(socket, this.#calls))
    })
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(where, () => resolve(server))
    })
  }

  protected async connect(where: NetConnectOpts): Promise<Receiving> {
    const receiving = new TcpReceiving(where, this.#protection, this.#calls)
    await connected(receiving.stream)
    return receiving
  }

  close(): void {
    this.#server?.close()
  }
}

export class TcpReceiving implements Receiving {
  readonly stream: Socket
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  readonly #calls: SocketCalls | undefined
  #deliver: ((bytes: Uint8Array) => void) | undefined
  #space: () => Uint8Array | undefined = () => undefined

  constructor(where: NetConnectOpts, protection: Protection, calls: SocketCalls | undefined) {
    this.#calls = calls
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
    if (this.#calls) this.#readOn(this.#calls, this.#deliver)
    return true
  }

  /** As long as it is known where the next bytes are wanted, and some are there. */
  #readOn(calls: SocketCalls, deliver: (bytes: Uint8Array) => void): void {
    for (let reads = 0; reads < READS; reads++) {
      const space = this.#space()
      const descriptor = space && descriptorOf(this.stream) // gone as soon as somebody has closed it
      if (!space || descriptor === undefined) return
      const count = calls.read(descriptor, space)
      if (count > 0) deliver(space.subarray(0, count))
      if (count < space.length) return
    }
  }
}

interface Letter {
  readonly header: Uint8Array
  readonly payload: Uint8Array
  readonly left: () => void
}

export class TcpSending implements Sending {
  readonly stream: Duplex
  readonly #socket: Socket
  readonly #calls: SocketCalls | undefined
  /** The stream has something that the socket did not take. What comes after it waits here. */
  #stalled = false
  #queue: Letter[] = []

  /** `stream`: for the handshake. */
  constructor(socket: Socket, calls: SocketCalls | undefined, stream: Duplex = socket) {
    this.stream = stream
    this.#socket = socket
    this.#calls = calls
  }

  start(closed: () => void): void {
    this.#socket.on('error', () => {}) // 'close' follows
    this.#socket.on('close', closed)
    this.stream.resume()
  }

  write(header: Uint8Array, payload: Uint8Array, left: () => void): void {
    if (!this.#calls) this.#stream(header, payload, left)
    else if (this.#stalled) this.#queue.push({ header, payload, left })
    else this.#send(this.#calls, { header, payload, left })
  }

  #send(calls: SocketCalls, { header, payload, left }: Letter): void {
    const descriptor = descriptorOf(this.#socket)
    const sent = descriptor === undefined ? 0 : calls.write(descriptor, header, payload)
    if (sent === header.length + payload.length) {
      left()
      return
    }
    this.#stalled = true
    this.#stream(header.subarray(sent), payload.subarray(Math.max(0, sent - header.length)), () => {
      this.#stalled = false
      left()
      while (!this.#stalled && this.#queue.length > 0) this.#send(calls, this.#queue.shift()!)
    })
  }

  #stream(header: Uint8Array, payload: Uint8Array, left: () => void): void {
    const socket = this.#socket
    if (!socket.writable) queueMicrotask(left)
    else if (payload.length === 0) socket.write(header, left)
    else if (header.length === 0) socket.write(payload, left)
    else {
      socket.cork()
      socket.write(header)
      socket.write(payload, left)
      socket.uncork()
    }
  }

  end(): Promise<void> {
    const socket = this.#socket
    for (const { header, payload, left } of this.#queue.splice(0)) this.#stream(header, payload, left)
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

  unref(): void {
    this.#socket.unref()
  }

  destroy(): void {
    this.#socket.destroy()
  }
}
