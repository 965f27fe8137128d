/**
 * Runs collectives in a worker thread that owns the links (worker.ts). This is the main thread's side: it copies numbers
 * in and out, piece by piece, and keeps the process alive exactly while something is in flight.
 */
import type { Worker } from 'node:worker_threads'
import { bytesOf, bytesPerElement } from './call.js'
import type { Channel } from './channel.js'
import { type CollectiveError, fromRecord, toRecord } from './failures.js'
import type { ForeignMemory } from './foreign-memory.js'
import { type Piece, piecesOf, staysWhole } from './pieces.js'
import { STAGING_BYTES, Staging } from './staging.js'
import { startWorker } from './start-worker.js'
import { inPlace, type Placed, type Runner, type Task } from './task.js'
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.js'

/** Larger collectives go in pieces of this size: small enough that copying overlaps sending, and large enough to fill links. */
const PIECE_BYTES = 8 * 1024 * 1024

/** One piece on its way: waiting for staging memory, or in the worker. */
interface Flying {
  readonly piece: Piece
  readonly channel: number
  readonly bytes: number
  /** Where the working buffer is: in staging memory, once it has been taken, or at an address. */
  at: number | bigint
  readonly done: (bytesSent: number) => void
  readonly reject: (error: Error) => void
}

export class WorkerLink {
  readonly rank: number
  readonly size: number
  readonly #worker: Worker
  readonly #memory = new SharedArrayBuffer(STAGING_BYTES)
  readonly #staging = new Staging()
  readonly #foreign: ForeignMemory | undefined
  /** Arrays that the links may touch even now that their operations have failed. */
  readonly #held: Piece[] = []
  readonly #opened = new Set<number>()
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

  /** With `foreign`, large arrays are used where they are. */
  constructor(options: Omit<WorkerOptions, 'staging' | 'foreign'>, foreign?: ForeignMemory) {
    this.rank = options.rank
    this.size = options.size
    this.#foreign = foreign
    const data: WorkerOptions = { ...options, staging: this.#memory, foreign: foreign !== undefined }
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    this.#worker = startWorker(new URL(`./worker.${ending}`, import.meta.url), data)
    this.#worker.on('message', (message: FromWorker) => this.#heard(message))
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error(`the worker thread of rank ${this.rank} ended`)))
  }

  /** @returns the bytes handed to the links. */
  run(channel: Channel, task: Task): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure)
      this.#open(channel)
      const element = bytesPerElement(task.call.dtype)
      const address = this.#addressOf(task)
      const whole = this.#foreign && staysWhole(task.call)
      const most = whole ? Number.POSITIVE_INFINITY : PIECE_BYTES / element
      const pieces = piecesOf(task, channel.ranks.length, most)
      let sent = 0
      let left = pieces.length
      const done = (bytesSent: number) => {
        sent += bytesSent
        if (--left === 0) resolve(sent)
      }
      this.#worker.ref()
      for (const piece of pieces) {
        this.#queued.push({
          piece,
          channel: channel.id,
          bytes: piece.elements * element,
          at: address ?? 0,
          done,
          reject,
        })
      }
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

  #open(channel: Channel): void {
    if (this.#opened.has(channel.id)) return
    this.#opened.add(channel.id)
    this.post({ type: 'open', channel })
  }

  /** Hands what is queued to the worker, in order, as far as there is staging memory; at the end the close. */
  #start(): void {
    for (let flying = this.#queued[0]; flying; flying = this.#queued[0]) {
      if (!this.#stage(flying)) return
      this.#queued.shift()
      const { piece, channel, at } = flying
      const id = ++this.#lastId
      this.#flying.set(id, flying)
      this.post({ type: 'run', id, channel, call: piece.call, elements: piece.elements, at })
    }
    if (this.#closing) this.post({ type: 'close' })
  }

  /** Where a task's working buffer lies, if that can be one of the user's arrays; what it is to hold is then there. */
  #addressOf(task: Task): bigint | undefined {
    const work = staysWhole(task.call) ? inPlace(task) : undefined
    const address = work && this.#foreign?.addressOf(work)
    const { input } = task
    if (address !== undefined && input && input.data !== work) {
      bytesOf(work!).set(bytesOf(input.data), input.at * input.data.BYTES_PER_ELEMENT)
    }
    return address
  }

  /** Copies what a piece works on to staging memory, unless it is used where it is. False: there is no room now. */
  #stage(flying: Flying): boolean {
    if (typeof flying.at === 'bigint') return true
    const at = this.#staging.take(flying.bytes)
    if (at === undefined) return false
    flying.at = at
    for (const input of flying.piece.inputs) this.#staged(flying.piece, at, input).set(bytesOf(input.data))
    return true
  }

  /** Where in the staging memory a segment of the user's array lies. */
  #staged(piece: Piece, at: number, placed: Placed): Uint8Array {
    const start = at + placed.at * bytesPerElement(piece.call.dtype)
    return new Uint8Array(this.#memory, start, placed.data.byteLength)
  }

  #heard(message: FromWorker): void {
    if (message.type === 'done') this.#done(message)
    else if (message.type === 'failed') this.#failed(message)
    else if (message.type === 'broken') this.#end(fromRecord(message.failure))
    else if (message.type === this.#awaited?.type) this.#awaited.resolve(message)
  }

  #done({ id, bytes }: Extract<FromWorker, { type: 'done' }>): void {
    const flying = this.#flying.get(id)!
    this.#flying.delete(id)
    const { piece, at } = flying
    if (typeof at === 'number') {
      for (const output of piece.outputs) bytesOf(output.data).set(this.#staged(piece, at, output))
      this.#staging.giveBack(at, flying.bytes)
    }
    if (this.#queued.length > 0) this.#start()
    this.settled()
    flying.done(bytes)
  }

  /** One operation failed, and with it the group: the worker answers all others in flight alike. */
  #failed({ id, failure }: Extract<FromWorker, { type: 'failed' }>): void {
    const { reject, piece } = this.#flying.get(id)!
    this.#flying.delete(id)
    this.#held.push(piece)
    const error = fromRecord(failure)
    this.#failure ??= error
    const waiting = this.#queued.splice(0)
    for (const queued of waiting) queued.reject(error)
    if (waiting.length > 0) this.#start()
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

/** One channel of a rank whose links are in a worker. */
export class WorkerRunner implements Runner {
  readonly rank: number
  readonly size: number
  readonly #link: WorkerLink
  readonly #channel: Channel
  readonly #leave: (() => Promise<void>) | undefined
  readonly #inner = new Map<number, WorkerRunner>()
  readonly #inFlight = new Set<Promise<unknown>>()
  #bytesSent = 0

  /** The world's closes the links; that of a group has none to close. */
  constructor(link: WorkerLink, channel: Channel, leave?: () => Promise<void>) {
    this.#link = link
    this.#channel = channel
    this.rank = channel.ranks.indexOf(link.rank)
    this.size = channel.ranks.length
    this.#leave = leave
  }

  get bytesSent(): number {
    return [...this.#inner.values()].reduce((sum, runner) => sum + runner.bytesSent, this.#bytesSent)
  }

  async run(task: Task): Promise<void> {
    const running = this.#link.run(this.#channel, task)
    this.#inFlight.add(running)
    try {
      this.#bytesSent += await running
    } finally {
      this.#inFlight.delete(running)
    }
  }

  group(channel: Channel): Runner {
    let runner = this.#inner.get(channel.id)
    if (!runner) {
      runner = new WorkerRunner(this.#link, channel)
      this.#inner.set(channel.id, runner)
    }
    return runner
  }

  abort(error: CollectiveError): void {
    this.#link.post({ type: 'abort', failure: toRecord(error) })
  }

  async close(): Promise<void> {
    if (this.#leave) await this.#leave()
    else await Promise.allSettled([...this.#inFlight])
  }
}
