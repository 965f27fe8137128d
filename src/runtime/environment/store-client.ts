/**
 * A rank's end of the store that the launcher holds. It refuses to outlive the launcher: when that is gone,
 * whatever waits fails at once, and it never keeps a process alive that waits for nothing.
 */
import type { Socket } from 'node:net'
import { initiateHandshake } from '../../collectives/wire/handshake.js'
import { connected, dial, type Protection } from '../../collectives/wire/tls.js'
import { LockstepError } from '../../errors.js'
import { asResponse, encodeFrame, FrameReader, type Request } from './store-frames.js'

export interface StoreAddress extends Protection {
  readonly host: string
  readonly port: number
  /** For connecting, and the default of every wait; milliseconds. */
  readonly timeoutMs: number
}

interface Pending {
  readonly resolve: (value: string | undefined) => void
  readonly reject: (error: Error) => void
}

export class StoreClient {
  readonly #socket: Socket
  readonly #address: string
  readonly #timeoutMs: number
  readonly #pending = new Map<number, Pending>()
  #nextId = 0
  #closed: LockstepError | undefined

  private constructor(socket: Socket, { host, port, timeoutMs }: StoreAddress) {
    this.#socket = socket
    this.#address = `${host}:${port}`
    this.#timeoutMs = timeoutMs
    const frames = new FrameReader()
    socket.on('data', (chunk) => {
      try {
        for (const message of frames.push(chunk)) this.#settle(message)
      } catch (cause) {
        this.#fail(
          new LockstepError(`the store at ${this.#address} sent nonsense: ${(cause as Error).message}`, {
            cause,
          }),
        )
      }
    })
    socket.on('error', () => {}) // 'close' follows and says it
    socket.on('close', () => {
      this.#fail(
        new LockstepError(
          `the launcher's store at ${this.#address} is gone: ddp-launch has ended, start the job again`,
        ),
      )
    })
    socket.unref()
  }

  /** @throws LockstepError when nobody listens there, in time, or the other end has another token. */
  static async connect(address: StoreAddress): Promise<StoreClient> {
    const { host, port, token, timeoutMs } = address
    const socket = dial({ host, port, noDelay: true }, address)
    try {
      await connected(socket, timeoutMs)
    } catch (cause) {
      throw new LockstepError(
        `cannot reach the launcher's store at ${host}:${port} (MASTER_ADDR:MASTER_PORT): ${(cause as Error).message}; expected a running ddp-launch there`,
        { cause },
      )
    }
    await initiateHandshake(socket, token, { timeoutMs })
    return new StoreClient(socket, address)
  }

  /** Sets `key` for every rank; resolves when the store has it. A later `set` replaces an earlier one. */
  async set(key: string, value: string): Promise<void> {
    await this.#ask({ id: this.#nextId++, op: 'set', key, value }, this.#timeoutMs, 'the store')
  }

  /**
   * The value of `key`, as soon as somebody has set it.
   * @param waitingFor who should set it, for the error: "rank 3".
   * @throws LockstepError naming key, who was waited for and how long; or that the launcher is gone.
   */
  async get(key: string, timeoutMs = this.#timeoutMs, waitingFor = 'another rank'): Promise<string> {
    return (await this.#ask({ id: this.#nextId++, op: 'get', key }, timeoutMs, waitingFor)) ?? ''
  }

  /** What still waits fails. */
  close(): void {
    this.#fail(new LockstepError('the connection with the store was closed by this rank'))
  }

  #ask(request: Request, timeoutMs: number, waitingFor: string): Promise<string | undefined> {
    if (this.#closed) return Promise.reject(this.#closed)
    const frame = encodeFrame(request)
    const answer = new Promise<string | undefined>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#forget(request.id)
        const seconds = `${timeoutMs / 1000} s`
        reject(
          new LockstepError(
            `key "${request.key}" was not set within ${seconds}: ${waitingFor} was waited for`,
          ),
        )
      }, timeoutMs)
      this.#pending.set(request.id, {
        resolve: (value) => {
          clearTimeout(timer)
          resolve(value)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
    })
    this.#socket.ref() // a rank that waits stays alive; one that does not may end
    this.#socket.write(frame)
    return answer
  }

  #settle(message: unknown): void {
    const { id, value } = asResponse(message)
    this.#pending.get(id)?.resolve(value)
    this.#forget(id)
  }

  #forget(id: number): void {
    this.#pending.delete(id)
    if (this.#pending.size === 0) this.#socket.unref()
  }

  #fail(error: LockstepError): void {
    this.#closed ??= error
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject } of pending) reject(this.#closed)
    this.#socket.destroy()
  }
}
