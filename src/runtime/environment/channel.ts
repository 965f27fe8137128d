/**
 * Messages between two processes of a job, over a TCP connection on which both have proved the token: whole, in order,
 * each a JSON object. Each end says now and then that it lives, so that a machine that vanished is noticed too. It
 * refuses to know what the messages mean.
 */
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { acceptHandshake, initiateHandshake } from '../../collectives/wire/handshake.js'
import { connected, createListener, dial, type Protection } from '../../collectives/wire/tls.js'
import { encodeFrame, FrameReader } from './store-frames.js'

const HANDSHAKE_TIMEOUT_MS = 5000
/** So many beats may be missed: a busy machine delays them. */
const BEATS_MISSED = 5
/** What lives says: an object without anything in it. */
const BEAT = encodeFrame({})

export class Channel {
  /** Set before the next turn of the event loop; what came earlier is kept. */
  onMessage: (message: object) => void = () => {}
  /** Called once; `reason` completes "the connection with X". Not after `close`. */
  onLost: (reason: string) => void = () => {}
  /** This end's address, as a host of the network sees it. */
  readonly localAddress: string
  readonly remoteAddress: string
  readonly #socket: Socket
  readonly #beat: NodeJS.Timeout
  #heardAt = Date.now()
  #isOver = false

  /** @param socket on which the handshake is done. */
  constructor(socket: Socket, beatMs: number) {
    this.#socket = socket
    this.localAddress = withoutMapping(socket.localAddress)
    this.remoteAddress = `${withoutMapping(socket.remoteAddress)}:${socket.remotePort}`
    const frames = new FrameReader()
    socket.on('data', (chunk) => {
      this.#heardAt = Date.now()
      try {
        for (const message of frames.push(chunk)) this.#take(message)
      } catch (error) {
        this.#lose(`broke: it sent nonsense (${(error as Error).message})`)
      }
    })
    socket.on('error', (error) => this.#lose(`broke: ${error.message}`))
    socket.on('close', () => this.#lose('was closed'))
    this.#beat = setInterval(() => {
      const silentMs = Date.now() - this.#heardAt
      if (silentMs > BEATS_MISSED * beatMs) this.#lose(`is silent since ${Math.round(silentMs / 1000)} s`)
      else socket.write(BEAT)
    }, beatMs)
  }

  send(message: object): void {
    if (!this.#isOver) this.#socket.write(encodeFrame(message))
  }

  /** Resolves when all that was sent has left, or cannot any more. */
  async close(): Promise<void> {
    if (this.#isOver) return
    this.#finish()
    this.#socket.end()
    // Not `once`, which an error would reject: the other end may be gone before it has read our goodbye.
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000)
      this.#socket.on('close', () => {
        clearTimeout(timer)
        resolve()
      })
    })
    this.#socket.destroy()
  }

  #take(message: unknown): void {
    if (this.#isOver || Object.keys(Object(message)).length === 0) return
    this.onMessage(message as object)
  }

  #lose(reason: string): void {
    if (this.#isOver) return
    this.#finish()
    this.#socket.destroy()
    this.onLost(reason)
  }

  #finish(): void {
    this.#isOver = true
    clearInterval(this.#beat)
  }
}

export interface ChannelListener {
  readonly port: number
  /** Listens no more; channels stay. */
  close(): void
}

/** @throws the system's error when `host:port` cannot be listened on. */
export async function listenForChannels(
  options: Protection & {
    readonly host: string
    readonly port: number
    readonly beatMs: number
    readonly onChannel: (channel: Channel) => void
    /** Told of each connection that did not prove the token. */
    readonly onRefused: (error: Error) => void
  },
): Promise<ChannelListener> {
  const strangers = new Set<Socket>()
  const come = (socket: Socket) => {
    strangers.add(socket)
    acceptHandshake(socket, options.token, { timeoutMs: HANDSHAKE_TIMEOUT_MS })
      .then(() => options.onChannel(new Channel(socket, options.beatMs)), options.onRefused)
      .finally(() => strangers.delete(socket))
  }
  const server = createListener(options, come, options.onRefused)
  server.listen(options.port, options.host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      for (const socket of strangers) socket.destroy()
    },
  }
}

/** One try. @throws the system's error when nobody can be reached, a LockstepError when TLS or the handshake fails. */
export async function dialChannel(
  options: Protection & {
    readonly host: string
    readonly port: number
    readonly beatMs: number
    readonly timeoutMs: number
  },
): Promise<Channel> {
  const { host, port, token, timeoutMs } = options
  const socket = dial({ host, port, noDelay: true }, options)
  await connected(socket, timeoutMs)
  await initiateHandshake(socket, token, { timeoutMs: HANDSHAKE_TIMEOUT_MS })
  return new Channel(socket, options.beatMs)
}

/** An IPv4 address as such, also where the socket is of both families. */
function withoutMapping(address: string | undefined): string {
  return (address ?? 'unknown').replace(/^::ffff:/, '')
}
