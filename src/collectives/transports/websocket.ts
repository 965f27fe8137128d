/**
 * WebSocket connections through an HTTP upgrade, so that a proxy may stand between two ranks. Behind the upgrade they are TCP
 * connections (tcp.ts) with a frame's header before each write. What they carry is the same stream of bytes: messages mean
 * nothing. `ws` upgrades what comes and reads what clients send, which is little.
 *
 * The receiver dials, because what a client sends is masked byte by byte and what a server sends is not. No compression:
 * gradients do not compress, and it costs more than the network.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type RequestListener, request, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, isIP, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws'
import { LockstepError } from '../../errors.js'
import { HEADER_BYTES } from '../wire/frame.js'
import { connected, explained, isTrusted, listenerOptions, type Protection } from '../wire/tls.js'
import {
  encodeFrame,
  encodeMasked,
  FrameReader,
  LONGEST_HEADER_BYTES,
  OPCODES,
} from '../wire/websocket-frame.js'
import type { Door, Receiving, Sending } from './link.js'
import type { Address } from './mesh.js'
import { loadSocketCalls, type SocketCalls } from './socket-calls.js'
import { TcpReceiving, TcpSending } from './tcp.js'

const PATH = '/lockstep'
/** RFC 6455 §1.3. */
const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** How long an HTTP request may take to come in, and its answer. */
const REQUEST_MS = 5000
/** `maxPayload`: of the handshake's messages. */
const UPGRADES = { path: PATH, perMessageDeflate: false, autoPong: false, maxPayload: 4096 }
const NOTHING = new Uint8Array(0)

export class WebSocketDoor implements Door {
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
    const calls = this.#bare ? undefined : await loadSocketCalls()
    const timeouts = {
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: 1000,
    }
    const { tls, token } = this.#protection
    // What is encrypted has to go through the stream.
    if (tls === undefined) this.#calls = calls
    const server = tls
      ? createTlsServer({ ...timeouts, ...listenerOptions(tls, token) }, answer)
      : createServer(timeouts, answer)
    this.#server = server
    const upgrades = new WebSocketServer({ noServer: true, ...UPGRADES })
    server.on('upgrade', (request, socket, head) => {
      const isStranger = tls !== undefined && !isTrusted(request.socket as TLSSocket, tls)
      if (isStranger || upgrades.shouldHandle(request) === false) {
        socket.destroy()
        return
      }
      upgrades.handleUpgrade(request, socket, head, (ws) => {
        request.socket.setNoDelay(true)
        calls?.unpace(request.socket)
        come(new WebSocketSending(request.socket, this.#calls, ws))
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

  async dial(address: Address): Promise<Receiving> {
    const { host } = address
    const where = { ...address, ...(isIP(host) === 0 && { servername: host }) }
    const connection = new TcpReceiving(where, this.#protection, this.#calls)
    await connected(connection.stream, REQUEST_MS)
    return upgraded(connection, address)
  }

  close(): void {
    this.#server?.close()
    this.#server?.closeAllConnections() // not the upgraded ones
  }
}

const answer: RequestListener = (_, response) => {
  response.writeHead(426, { connection: 'close', upgrade: 'websocket' }).end('a WebSocket is expected here\n')
}

/** The client's half of an upgrade. The connection is destroyed where it is refused. */
function upgraded(connection: TcpReceiving, address: Address): Promise<Receiving> {
  const key = randomBytes(16).toString('base64')
  const accept = createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64')
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': key,
  }
  const { stream: socket } = connection
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(socket instanceof TLSSocket ? explained(error) : error)
    }
    const late = () => fail(new LockstepError(`it did not answer within ${REQUEST_MS / 1000} s`))
    const timer = setTimeout(late, REQUEST_MS)
    request({ ...address, path: PATH, headers, createConnection: () => socket })
      .on('upgrade', ({ headers }, _, head) => {
        clearTimeout(timer)
        if (headers['sec-websocket-accept'] !== accept) fail(new LockstepError('it is no WebSocket server'))
        else resolve(new WebSocketReceiving(connection, head))
      })
      .on('response', ({ statusCode }) => {
        fail(new LockstepError(`it answered ${statusCode}, expected 101 and a WebSocket`))
      })
      .on('error', fail)
      .end()
  })
}

class WebSocketReceiving implements Receiving {
  /** What messages carry, and what is written as such. */
  readonly stream: Duplex
  readonly #connection: TcpReceiving
  readonly #frames: FrameReader
  /** For both headers, the frame's and the block's, when a block is read to where it is wanted. */
  readonly #headers = new Uint8Array(LONGEST_HEADER_BYTES + HEADER_BYTES)
  readonly #take = (bytes: Uint8Array) => {
    try {
      this.#frames.take(bytes)
    } catch (error) {
      if (!(error instanceof LockstepError)) throw error
      this.#connection.stream.destroy(error)
    }
  }
  #deliver = (bytes: Uint8Array): void => {
    if (!this.stream.push(bytes)) this.#connection.stream.pause()
  }

  /** `head`: what came behind the answer to the upgrade. */
  constructor(connection: TcpReceiving, head: Buffer) {
    const { stream: socket } = connection
    this.#connection = connection
    this.#frames = new FrameReader({
      payload: (bytes) => this.#deliver(bytes),
      control: (opcode, payload) => this.#answer(opcode, payload),
    })
    this.stream = new Duplex({
      read: () => void socket.resume(),
      write: (chunk, _, done) => socket.write(masked(OPCODES.binary, chunk), done),
      destroy(error, done) {
        socket.destroy()
        done(error)
      },
    })
    this.stream.on('error', () => {}) // 'close' follows
    socket.unshift(head)
    socket
      .on('data', this.#take)
      .on('error', (error) => this.stream.destroy(error))
      .on('close', () => this.stream.destroy())
  }

  start(
    deliver: (bytes: Uint8Array) => void,
    space: () => Uint8Array | undefined,
    closed: (reason: string) => void,
  ): void {
    const { stream } = this
    for (let early = stream.read(); early !== null; early = stream.read()) deliver(early)
    this.#connection.stream.off('data', this.#take)
    this.#deliver = deliver
    this.#connection.start(this.#take, () => this.#spaceIn(space()), closed)
  }

  /** Where the next bytes of the connection are wanted, if those of the messages are wanted at `space`. */
  #spaceIn(space: Uint8Array | undefined): Uint8Array | undefined {
    const { left } = this.#frames
    return space && (left > 0 ? space.subarray(0, left) : this.#headers)
  }

  #answer(opcode: number, payload: Uint8Array): void {
    const { stream: socket } = this.#connection
    if (opcode === OPCODES.close) {
      socket.write(masked(OPCODES.close, payload))
      socket.destroySoon()
    } else if (opcode === OPCODES.ping && !socket.writableNeedDrain) {
      socket.write(masked(OPCODES.pong, payload)) // who pings and never reads gets no more
    }
  }

  unref(): void {
    this.#connection.unref()
  }

  destroy(): void {
    this.#connection.destroy()
  }
}

function masked(opcode: number, payload: Uint8Array): Uint8Array {
  return encodeMasked(opcode, payload, randomBytes(4))
}

class WebSocketSending extends TcpSending {
  constructor(socket: Socket, calls: SocketCalls | undefined, ws: WebSocket) {
    super(socket, calls, createWebSocketStream(ws))
    let isWaiting = false
    // One at a time: they are written behind all blocks, by nobody else than those are.
    ws.on('ping', (payload) => {
      if (isWaiting) return
      isWaiting = true
      super.write(encodeFrame(OPCODES.pong, payload), NOTHING, () => {
        isWaiting = false
      })
    })
  }

  override write(header: Uint8Array, payload: Uint8Array, left: () => void): void {
    super.write(encodeFrame(OPCODES.binary, header, header.length + payload.length), payload, left)
  }

  override end(): Promise<void> {
    super.write(encodeFrame(OPCODES.close, NOTHING), NOTHING, () => {})
    return super.end()
  }
}
