/**
 * WebSocket connections through an HTTP upgrade, so that a proxy may stand between two ranks. What they carry is the same
 * stream of bytes as over TCP: messages mean nothing, and none is longer than a block.
 *
 * The receiver dials, because what a client sends is masked byte by byte and what a server sends is not. No compression:
 * gradients do not compress, and it costs more than the network.
 */
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { type RawData, WebSocket, WebSocketServer } from 'ws'
import { LockstepError } from '../../errors.js'
import { BLOCK_BYTES } from '../wire/frame.js'
import { diallerOptions, explained, isTrusted, listenerOptions, type Protection } from '../wire/tls.js'
import { type Door, LINGER_MS, type Receiving, type Sending } from './link.js'
import type { Address } from './mesh.js'
import { loadSocketCalls } from './socket-calls.js'

const PATH = '/lockstep'
/** Up to this size a payload is copied behind its header: one message instead of two. */
const JOINED_BYTES = 4096
/** How long an HTTP request may take to come in. */
const REQUEST_MS = 5000
const OPTIONS = { perMessageDeflate: false, maxPayload: BLOCK_BYTES, skipUTF8Validation: true }

export class WebSocketDoor implements Door {
  readonly #protection: Protection
  #server: Server | undefined

  constructor(protection: Protection) {
    this.#protection = protection
  }

  async open(host: string, come: (sending: Sending) => void): Promise<Address> {
    const calls = await loadSocketCalls()
    const timeouts = {
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: 1000,
    }
    const { tls, token } = this.#protection
    const server = tls
      ? createTlsServer({ ...timeouts, ...listenerOptions(tls, token) }, answer)
      : createServer(timeouts, answer)
    this.#server = server
    const upgrades = new WebSocketServer({ noServer: true, path: PATH, ...OPTIONS })
    server.on('upgrade', (request, socket, head) => {
      const isStranger = tls !== undefined && !isTrusted(request.socket as TLSSocket, tls)
      if (isStranger || upgrades.shouldHandle(request) === false) {
        socket.destroy()
        return
      }
      upgrades.handleUpgrade(request, socket, head, (ws) => {
        request.socket.setNoDelay(true)
        calls?.unpace(request.socket)
        come(new WebSocketSending(ws, request.socket))
      })
    })
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, host, () => {
        const address = server.address()
        resolve({ host, port: (address as AddressInfo).port })
      })
    })
  }

  dial({ host, port }: Address): Promise<Receiving> {
    const name = host.includes(':') ? `[${host}]` : host
    const { tls, token } = this.#protection
    const [scheme, options] = tls ? ['wss', diallerOptions(tls, token)] : ['ws', {}]
    const ws = new WebSocket(`${scheme}://${name}:${port}${PATH}`, {
      ...options,
      handshakeTimeout: REQUEST_MS,
      ...OPTIONS,
    })
    return new Promise((resolve, reject) => {
      const receiving = new WebSocketReceiving(ws)
      ws.once('open', () => resolve(receiving)).once('error', (error) => reject(explained(error)))
    })
  }

  close(): void {
    this.#server?.close()
    this.#server?.closeAllConnections() // not the upgraded ones
  }
}

const answer: RequestListener = (_, response) => {
  response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end('a WebSocket is expected here\n')
}

/** A connection as a stream, for the handshake. */
class HandshakeStream extends Duplex {
  readonly #ws: WebSocket
  readonly #take = (data: RawData) => {
    for (const piece of data as Buffer[]) this.push(piece)
  }

  constructor(ws: WebSocket) {
    super()
    this.#ws = ws
    ws.binaryType = 'fragments' // as they were read, not joined
    ws.on('message', this.#take)
    ws.on('close', () => this.destroy())
    ws.on('error', (error) => this.destroy(new LockstepError(error.message, { cause: error })))
    this.on('error', () => {}) // whoever listens to the WebSocket is told
  }

  /** What has come and nobody has read; nothing more comes. */
  rest(): Buffer[] {
    this.#ws.off('message', this.#take)
    const pieces: Buffer[] = []
    for (let piece = this.read(); piece !== null; piece = this.read()) pieces.push(piece)
    return pieces
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#ws.send(chunk, done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#ws.terminate()
    done(error)
  }
}

class WebSocketReceiving implements Receiving {
  readonly stream: HandshakeStream
  readonly #ws: WebSocket
  #socket: Socket | undefined

  constructor(ws: WebSocket) {
    this.#ws = ws
    this.stream = new HandshakeStream(ws)
    ws.once('upgrade', ({ socket }) => {
      this.#socket = socket
    })
  }

  start(
    deliver: (bytes: Uint8Array) => void,
    _space: () => Uint8Array | undefined,
    closed: (reason: string) => void,
  ): void {
    const ws = this.#ws
    for (const early of this.stream.rest()) deliver(early)
    ws.on('message', (data) => {
      for (const piece of data as Buffer[]) deliver(piece)
    })
    ws.on('error', (error) => closed(`its connection failed (${error.message})`))
    ws.on('close', () => closed('its connection closed'))
    if (ws.readyState === ws.CLOSED) queueMicrotask(() => closed('its connection closed'))
  }

  unref(): void {
    this.#socket?.unref()
  }

  destroy(): void {
    this.#ws.terminate()
  }
}

class WebSocketSending implements Sending {
  readonly stream: HandshakeStream
  readonly #ws: WebSocket
  readonly #socket: Socket

  constructor(ws: WebSocket, socket: Socket) {
    this.#ws = ws
    this.#socket = socket
    this.stream = new HandshakeStream(ws)
  }

  start(closed: () => void): void {
    this.stream.rest()
    this.#ws.on('close', closed)
  }

  write(header: Uint8Array, payload: Uint8Array, left: () => void): void {
    const ws = this.#ws
    const sent = () => queueMicrotask(left) // a link that is gone says so at once
    if (payload.length <= JOINED_BYTES) ws.send(Buffer.concat([header, payload]), sent)
    else {
      this.#socket.cork() // one system call for both
      ws.send(header)
      ws.send(payload, sent)
      this.#socket.uncork()
    }
  }

  end(): Promise<void> {
    const ws = this.#ws
    return new Promise((resolve) => {
      if (ws.readyState === ws.CLOSED) return resolve()
      const timer = setTimeout(resolve, LINGER_MS)
      ws.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
      ws.close() // behind all that was sent
    })
  }

  unref(): void {
    this.#socket.unref()
  }

  destroy(): void {
    this.#ws.terminate()
  }
}
