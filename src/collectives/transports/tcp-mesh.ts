/**
 * Connects all ranks with each other over TCP: listens, dials, and lets nobody in who does not prove the job token.
 * It refuses to know how ranks learn each other's address.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { LockstepError } from '../../errors.js'
import { PeerFailedError } from '../failures.js'
import { acceptHandshake, initiateHandshake } from '../wire/handshake.js'
import { encodeHello, readHello } from '../wire/hello.js'
import type { Address, Mesh, MeshOptions } from './mesh.js'
import { Receiving, type TcpLink, TcpTransport } from './tcp.js'

/** How long a connection may take to prove itself. */
const HANDSHAKE_MS = 5000

export class TcpMesh implements Mesh {
  readonly #options: MeshOptions
  readonly #server: Server
  /** By rank: the links' halves as far as they are there. */
  readonly #sending = new Map<number, Socket>()
  readonly #receiving = new Map<number, Receiving>()
  readonly #strangers = new Set<Socket>()
  #changed: () => void = () => {}

  /** Listens on a port that the system chooses. */
  static async listen(options: MeshOptions): Promise<TcpMesh> {
    const mesh = new TcpMesh(options)
    await new Promise<void>((resolve, reject) => {
      mesh.#server.once('error', (cause) => {
        const what = `rank ${options.rank} cannot listen on ${options.host}: ${cause.message}`
        reject(new LockstepError(`${what}; give an address of this host`, { cause }))
      })
      mesh.#server.listen(0, options.host, resolve)
    })
    return mesh
  }

  private constructor(options: MeshOptions) {
    this.#options = options
    this.#server = createServer({ noDelay: true }, (socket) => void this.#accept(socket))
  }

  get address(): Address {
    const address = this.#server.address()
    return { host: this.#options.host, port: typeof address === 'object' && address ? address.port : 0 }
  }

  async connect(addresses: readonly Address[]): Promise<TcpTransport> {
    const peers = addresses.map((_, peer) => peer).filter((peer) => peer !== this.#options.rank)
    try {
      await this.#all(peers, addresses)
    } catch (error) {
      this.close()
      throw error
    }
    this.#server.close()
    for (const stranger of this.#strangers) stranger.destroy()
    const links: (TcpLink | undefined)[] = addresses.map(() => undefined)
    for (const peer of peers) {
      links[peer] = { receiving: this.#receiving.get(peer)!, sending: this.#sending.get(peer)! }
    }
    return new TcpTransport(this.#options.rank, links)
  }

  #all(peers: readonly number[], addresses: readonly Address[]): Promise<void> {
    const { rank, timeoutMs } = this.#options
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const missing = peers.filter((peer) => !this.#sending.has(peer) || !this.#receiving.has(peer))
        reject(
          new LockstepError(
            `rank ${rank} has no connection with rank ${missing.join(', rank ')} after ${timeoutMs / 1000} s: see whether they run, or raise the timeout (LOCKSTEP_TIMEOUT, in seconds)`,
          ),
        )
      }, timeoutMs)
      const fail = (error: unknown) => {
        clearTimeout(timer)
        reject(error)
      }
      this.#changed = () => {
        if (!peers.every((peer) => this.#sending.has(peer) && this.#receiving.has(peer))) return
        clearTimeout(timer)
        resolve()
      }
      for (const peer of peers) this.#dial(peer, addresses[peer]!, fail).then(this.#changed, fail)
      this.#changed()
    })
  }

  async #dial(peer: number, { host, port }: Address, fail: (error: Error) => void): Promise<void> {
    const { rank, size, token } = this.#options
    const receiving = new Receiving(host, port)
    const { socket } = receiving
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', (cause) => {
        const what = `rank ${peer} failed: rank ${rank} cannot connect to it at ${host}:${port}`
        reject(new PeerFailedError(peer, `${what} (${cause.message})`, { cause }))
      })
    })
    socket.on('error', () => {}) // 'close' follows
    try {
      await initiateHandshake(socket, token, { timeoutMs: HANDSHAKE_MS })
      socket.write(encodeHello({ rank, size }))
      const hello = await readHello(socket, size, HANDSHAKE_MS)
      if (hello.rank !== peer) throw new LockstepError(`it is rank ${hello.rank}`)
    } catch (cause) {
      socket.destroy()
      const what = `rank ${rank} cannot join rank ${peer} at ${host}:${port}`
      throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
    }
    socket.on('close', () => {
      fail(new PeerFailedError(peer, `rank ${peer} failed: it left while rank ${rank} waited for the others`))
    })
    this.#receiving.set(peer, receiving)
  }

  /** Whoever does not prove to be a rank of this job is dropped without a word, and disturbs nobody. */
  async #accept(socket: Socket): Promise<void> {
    const { rank, size, token } = this.#options
    this.#strangers.add(socket)
    socket.on('error', () => socket.destroy())
    try {
      await acceptHandshake(socket, token, { timeoutMs: HANDSHAKE_MS })
      socket.write(encodeHello({ rank, size })) // before theirs is judged: it tells them what is wrong
      const hello = await readHello(socket, size, HANDSHAKE_MS)
      if (this.#sending.has(hello.rank) || hello.rank === rank) {
        throw new LockstepError(`there is a rank ${hello.rank} already`)
      }
      this.#sending.set(hello.rank, socket)
    } catch {
      socket.destroySoon()
    }
    this.#strangers.delete(socket)
    this.#changed()
  }

  close(): void {
    this.#server.close()
    for (const socket of [...this.#strangers, ...this.#sending.values()]) socket.destroy()
    for (const { socket } of this.#receiving.values()) socket.destroy()
  }
}
