/**
 * The key-value store in which the ranks of a job meet and tell each other their addresses. The launcher holds
 * it while one attempt of the job runs. It refuses connections without the job token, and
 * carries addresses, never tensors.
 */
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { acceptHandshake } from '../../collectives/wire/handshake.js'
import { createListener, type Protection } from '../../collectives/wire/tls.js'
import { asRequest, encodeFrame, FrameReader, type Request } from './store-frames.js'

const HANDSHAKE_TIMEOUT_MS = 5000
/** What a store in a process of its own says when it listens. */
export const LISTENING = 'listening'

export interface StoreOptions extends Protection {
  /** The address to listen on: 127.0.0.1 for a job on one host. */
  readonly host: string
  /** 0, unless told otherwise: the system chooses one. */
  readonly port?: number
  /** Told of each connection that was closed for not being a well-behaved rank of this job. */
  readonly onRefused?: (error: Error) => void
}

export interface Store {
  /** Bound until `close`. */
  readonly port: number
  close(): Promise<void>
}

/** Listens, and answers ranks until closed. @throws the system's error when `host:port` cannot be listened on. */
export async function startStore(options: StoreOptions): Promise<Store> {
  const { host, port = 0, token, onRefused } = options
  const entries = new Entries()
  const sockets = new Set<Socket>()
  const come = (socket: Socket) => {
    acceptHandshake(socket, token, { timeoutMs: HANDSHAKE_TIMEOUT_MS })
      .then(() => serve(socket, entries, onRefused))
      .catch((error: Error) => onRefused?.(error))
  }
  const server = createListener(options, come, onRefused)
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

function serve(socket: Socket, entries: Entries, onRefused?: (error: Error) => void): void {
  const frames = new FrameReader()
  socket.on('data', (chunk) => {
    try {
      for (const message of frames.push(chunk)) answer(socket, entries, asRequest(message))
    } catch (error) {
      onRefused?.(
        new Error(`store: ${(error as Error).message}; its connection was closed`, { cause: error }),
      )
      socket.destroy()
    }
  })
  // A rank that dies resets its connection; that it has died is seen, and told, where its process is watched.
  socket.on('error', () => socket.destroy())
  socket.on('close', () => entries.forget(socket))
}

function answer(socket: Socket, entries: Entries, request: Request): void {
  if (request.op === 'set') {
    entries.set(request.key, request.value)
    socket.write(encodeFrame({ id: request.id }))
  } else {
    entries.whenSet(socket, request.key, (value) => socket.write(encodeFrame({ id: request.id, value })))
  }
}

/** The keys, and who waits for those that are not there yet. */
class Entries {
  readonly #values = new Map<string, string>()
  readonly #waiting = new Map<string, { owner: Socket; give: (value: string) => void }[]>()

  set(key: string, value: string): void {
    this.#values.set(key, value)
    const waiting = this.#waiting.get(key) ?? []
    this.#waiting.delete(key)
    for (const { give } of waiting) give(value)
  }

  whenSet(owner: Socket, key: string, give: (value: string) => void): void {
    const value = this.#values.get(key)
    if (value !== undefined) return void give(value)
    this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), { owner, give }])
  }

  forget(owner: Socket): void {
    for (const [key, waiting] of this.#waiting) {
      this.#waiting.set(
        key,
        waiting.filter((entry) => entry.owner !== owner),
      )
    }
  }
}
