/**
 * A communicator over TCP whose collectives run in a worker thread of their own (tcp-worker.ts). This is the main
 * thread's side: it copies numbers in and out, and keeps the process alive exactly while something is in flight.
 */
import type { Worker } from 'node:worker_threads'
import { LockstepError } from '../errors.js'
import { bytesOf, bytesPerElement } from './call.js'
import type { Communicator } from './communicator.js'
import { fromRecord } from './failures.js'
import { CheckedCommunicator, type Runner, type Task } from './runner.js'
import { singleRank } from './single.js'
import { type Staging, StagingPool } from './staging-pool.js'
import { startWorker } from './start-worker.js'
import type { FromWorker, ToWorker, WorkerOptions } from './tcp-messages.js'
import type { Address } from './transports/tcp-mesh.js'

/** Where ranks learn each other's address: a key-value store that all of them see. */
export interface AddressExchange {
  set(key: string, value: string): Promise<void> | void
  /** Waits until the key is set. */
  get(key: string, timeoutMs: number): Promise<string>
}

export interface TcpOptions {
  readonly rank: number
  readonly size: number
  /** The job's secret, which every connection has to prove. */
  readonly token: string
  readonly exchange: AddressExchange
  /** The address of this host that the other ranks can reach. */
  readonly host?: string
  /** How long connecting may take, and how long a collective may make no progress. */
  readonly timeoutMs?: number
}

/**
 * Connects this rank with all others: publishes `addr/<rank>` and looks up the others'.
 * @throws LockstepError naming the ranks that do not come within `timeoutMs`; PeerFailedError for one that came and left.
 */
export async function connectTcp(options: TcpOptions): Promise<Communicator> {
  const { rank, size, token, exchange, host = '127.0.0.1', timeoutMs = 60_000 } = options
  if (size === 1) return singleRank()
  const data: WorkerOptions = { rank, size, token, host, timeoutMs }
  const runner = new WorkerRunner(data)
  try {
    const { port } = await runner.next('listening')
    await exchange.set(`addr/${rank}`, JSON.stringify({ host, port }))
    const addresses = Array.from({ length: size }, (_, peer) =>
      peer === rank ? { host, port } : lookUp(peer, options, timeoutMs),
    )
    runner.post({ type: 'connect', addresses: await Promise.all(addresses) })
    await runner.next('connected')
  } catch (error) {
    await runner.terminate()
    throw error
  }
  runner.settled()
  return new CheckedCommunicator(runner)
}

async function lookUp(peer: number, { rank, exchange }: TcpOptions, timeoutMs: number): Promise<Address> {
  let text: string
  try {
    text = await exchange.get(`addr/${peer}`, timeoutMs)
  } catch (cause) {
    const what = `rank ${rank} waits for rank ${peer}, which has not said its address`
    throw new LockstepError(`${what}: ${(cause as Error).message}`, { cause })
  }
  const { host, port } = JSON.parse(text) as Partial<Address>
  if (typeof host !== 'string' || typeof port !== 'number') {
    throw new LockstepError(`rank ${peer} published the address ${text}: expected {"host", "port"}`)
  }
  return { host, port }
}

interface Flying {
  readonly task: Task
  staging?: Staging
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

class WorkerRunner implements Runner {
  readonly rank: number
  readonly size: number
  bytesSent = 0
  readonly #worker: Worker
  readonly #pool = new StagingPool()
  /** In the worker, by id; and those that wait here for staging memory, in order. */
  readonly #flying = new Map<number, Flying>()
  #queued: Flying[] = []
  #lastId = 0
  /** Why nothing can be run any more. */
  #failure: Error | undefined
  #closing = false
  #ended = false
  /** Who waits for the worker to say something other than an operation's end. */
  #awaited:
    | { type: FromWorker['type']; resolve(message: FromWorker): void; reject(e: Error): void }
    | undefined

  constructor(options: WorkerOptions) {
    this.rank = options.rank
    this.size = options.size
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    this.#worker = startWorker(new URL(`./tcp-worker.${ending}`, import.meta.url), options)
    this.#worker.on('message', (message: FromWorker) => this.#heard(message))
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error(`the worker thread of rank ${this.rank} ended`)))
  }

  run(task: Task): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure)
      this.#worker.ref()
      this.#queued.push({ task, resolve, reject })
      this.#start()
    })
  }

  async close(): Promise<void> {
    if (this.#ended) return
    this.#worker.ref()
    this.#closing = true
    this.#start()
    await this.next('closed').catch(() => {}) // it ended by itself: closed as well
    await this.terminate()
  }

  post(message: ToWorker): void {
    this.#worker.postMessage(message)
  }

  /** The worker's next message of this type. */
  next<T extends FromWorker['type']>(type: T): Promise<Extract<FromWorker, { type: T }>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#failure!)
      const heard = (message: FromWorker) => resolve(message as Extract<FromWorker, { type: T }>)
      this.#awaited = { type, resolve: heard, reject }
    })
  }

  /** With nothing in flight, a process that has ended its script must be able to end. */
  settled(): void {
    if (this.#flying.size === 0 && this.#queued.length === 0) this.#worker.unref()
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate()
  }

  /** Hands what is queued to the worker, in order, as far as there is staging memory; at the end the close. */
  #start(): void {
    while (this.#queued.length > 0) {
      const { call, elements, input } = this.#queued[0]!.task
      const element = bytesPerElement(call.dtype)
      if (!this.#pool.hasRoom(elements * element)) return
      const flying = this.#queued.shift()!
      const { staging, fresh } = this.#pool.take(elements * element)
      const { buffer } = staging
      flying.staging = staging
      if (input) new Uint8Array(buffer).set(bytesOf(input.data), input.at * element)
      const id = ++this.#lastId
      this.#flying.set(id, flying)
      this.post({ type: 'run', id, call, elements, staging: staging.id, ...(fresh && { buffer }) })
    }
    if (this.#closing) this.post({ type: 'close' })
  }

  #heard(message: FromWorker): void {
    if (message.type === 'done') this.#done(message)
    else if (message.type === 'failed') this.#failed(message)
    else if (message.type === 'broken') this.#end(fromRecord(message.failure))
    else if (message.type === this.#awaited?.type) this.#awaited.resolve(message)
  }

  #done({ id, bytesSent }: Extract<FromWorker, { type: 'done' }>): void {
    const { task, staging, resolve } = this.#flying.get(id)!
    const { call, output } = task
    this.#flying.delete(id)
    this.bytesSent = bytesSent
    if (output) {
      const at = output.at * bytesPerElement(call.dtype)
      bytesOf(output.data).set(new Uint8Array(staging!.buffer, at, output.data.byteLength))
    }
    for (const { id: gone } of this.#pool.giveBack(staging!)) this.post({ type: 'forget', staging: gone })
    this.#start()
    this.settled()
    resolve()
  }

  /** One operation failed, and with it the group: the worker answers all others in flight alike. */
  #failed({ id, failure }: Extract<FromWorker, { type: 'failed' }>): void {
    const { reject } = this.#flying.get(id)!
    this.#flying.delete(id)
    const error = fromRecord(failure)
    this.#failure ??= error
    for (const queued of this.#queued.splice(0)) queued.reject(error)
    this.#start()
    this.settled()
    reject(error)
  }

  /** The worker is gone, or never came as far as running anything. */
  #end(error: Error): void {
    this.#ended = true
    this.#failure ??= error
    this.#awaited?.reject(error)
    for (const { reject } of [...this.#flying.values(), ...this.#queued.splice(0)]) reject(error)
    this.#flying.clear()
  }
}
