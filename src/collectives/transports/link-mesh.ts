/**
 * Connects all ranks with each other: listens, dials, and lets nobody in who does not prove the job token.
 * It refuses to know what carries the connections, and how ranks learn each other's address.
 */
import { LockstepError } from '../../errors.js'
import { PeerFailedError } from '../failures.js'
import { acceptHandshake, initiateHandshake } from '../wire/handshake.js'
import { encodeHello, readHello } from '../wire/hello.js'
import type { Door, Receiving, Sending } from './link.js'
import { type Link, LinkTransport } from './link-transport.js'
import { type Address, type Mesh, type MeshOptions, placeOf } from './mesh.js'

/** How long a connection may take to prove itself. */
const HANDSHAKE_MS = 5000

export class LinkMesh implements Mesh {
  readonly #options: MeshOptions
  readonly #door: Door
  #address: Address = { host: '', port: 0 }
  /** By rank: the links' halves as far as they are there. */
  readonly #sending = new Map<number, Sending>()
  readonly #receiving = new Map<number, Receiving>()
  readonly #strangers = new Set<Sending>()
  #changed: () => void = () => {}
  #isClosed = false

  /** Listens on a port that the system chooses. */
  static async listen(door: Door, options: MeshOptions): Promise<LinkMesh> {
    const mesh = new LinkMesh(door, options)
    try {
      mesh.#address = await door.open(options.host, (sending) => void mesh.#accept(sending))
    } catch (cause) {
      const what = `rank ${options.rank} cannot listen on ${options.host}: ${(cause as Error).message}`
      throw new LockstepError(`${what}; give an address of this host`, { cause })
    }
    return mesh
  }

  private constructor(door: Door, options: MeshOptions) {
    this.#door = door
    this.#options = options
  }

  get address(): Address {
    return this.#address
  }

  async connect(addresses: readonly Address[]): Promise<LinkTransport> {
    const peers = addresses.map((_, peer) => peer).filter((peer) => peer !== this.#options.rank)
    try {
      await this.#all(peers, addresses)
    } catch (error) {
      this.close()
      throw error
    }
    this.#door.close()
    for (const stranger of this.#strangers) stranger.destroy()
    const links: (Link | undefined)[] = addresses.map(() => undefined)
    for (const peer of peers) {
      links[peer] = { receiving: this.#receiving.get(peer)!, sending: this.#sending.get(peer)! }
    }
    return new LinkTransport(this.#options.rank, links)
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

  async #dial(peer: number, address: Address, fail: (error: Error) => void): Promise<void> {
    const { rank, size, token } = this.#options
    const receiving = await this.#door.dial(address).catch((cause: Error) => {
      const what = `rank ${peer} failed: rank ${rank} cannot connect to it at ${placeOf(address)}`
      throw new PeerFailedError(peer, `${what} (${cause.message})`, { cause })
    })
    const { stream } = receiving
    stream.on('error', () => {}) // 'close' follows
    try {
      await initiateHandshake(stream, token, { timeoutMs: HANDSHAKE_MS })
      stream.write(encodeHello({ rank, size }))
      const hello = await readHello(stream, size, HANDSHAKE_MS)
      if (hello.rank !== peer) throw new LockstepError(`it is rank ${hello.rank}`)
    } catch (cause) {
      receiving.destroy()
      const what = `rank ${rank} cannot join rank ${peer} at ${placeOf(address)}`
      throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
    }
    stream.on('close', () => {
      fail(new PeerFailedError(peer, `rank ${peer} failed: it left while rank ${rank} waited for the others`))
    })
    this.#receiving.set(peer, receiving)
  }

  /** Whoever does not prove to be a rank of this job is dropped without a word, and disturbs nobody. */
  async #accept(sending: Sending): Promise<void> {
    const { rank, size, token } = this.#options
    const { stream } = sending
    // TLS takes a while: whoever was let in before may come after.
    if (this.#isClosed) sending.destroy()
    this.#strangers.add(sending)
    stream.on('error', () => sending.destroy())
    try {
      await acceptHandshake(stream, token, { timeoutMs: HANDSHAKE_MS })
      stream.write(encodeHello({ rank, size })) // before theirs is judged: it tells them what is wrong
      const hello = await readHello(stream, size, HANDSHAKE_MS)
      if (this.#sending.has(hello.rank) || hello.rank === rank) {
        throw new LockstepError(`there is a rank ${hello.rank} already`)
      }
      this.#sending.set(hello.rank, sending)
    } catch {
      void sending.end().then(() => sending.destroy())
    }
    this.#strangers.delete(sending)
    this.#changed()
  }

  close(): void {
    this.#isClosed = true
    this.#door.close()
    for (const sending of [...this.#strangers, ...this.#sending.values()]) sending.destroy()
    for (const receiving of this.#receiving.values()) receiving.destroy()
  }
}
