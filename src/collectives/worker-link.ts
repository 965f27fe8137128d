/**
 * Runs collectives in a worker thread that owns links (worker.ts). This is the main thread's side: it copies numbers
 * in and out, piece by piece, and keeps the process alive exactly while something is in flight, wherever that runs.
 */
import type { Worker } from 'node:worker_threads'
import { bytesOf, bytesPerElement } from './call.js'
import type { Channel } from './channel.js'
import { CollectiveError, fromRecord } from './failures.js'
import type { Flight } from './flight-recorder.js'
import type { ForeignMemory } from './foreign-memory.js'
import type { Links } from './links.js'
import { type Piece, piecesOf, staysWhole } from './pieces.js'
import { STAGING_BYTES, Staging } from './staging.js'
import { startWorker } from './start-worker.js'
import { inPlace, type Placed, type Task } from './task.js'
import type { Frame } from './wire/frame.js'
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.js'

/** Larger collectives go in pieces of this size: small enough that copying overlaps sending, and large enough to fill links. */
const PIECE_BYTES = 8 * 1024 * 1024

/** One piece on its way: waiting for staging memory, or in the worker. */
interface Flying {
  readonly piece: Piece
  readonly channel: number
  /** Where its channel's operations are numbered. */
  readonly links: Links
  /** Once it has its number. */
  flight: Flight | undefined
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
  #foreign: ForeignMemory | undefined
  /** Arrays that the links may touch even now that their operations have failed. */
  readonly #held: Piece[] = []
  /** Operations in flight, here and in the worker. */
  readonly #inFlight = new Set<Promise<unknown>>()
  /** Who has asked where the other ranks are, by channel. */
  readonly #asking = new Map<number, (statuses: ReadonlyMap<number, Frame>) => void>()
  /** Told why the worker's links have failed. */
  failed: (error: CollectiveError) => void = () => {}
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

  /** From now on no array is used where it is. */
  alwaysStage(): void {
    this.#foreign = undefined
  }

  /** `links` number the channel's operations. @returns the bytes handed to the links. */
  run(channel: Channel, links: Links, task: Task): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(links.failure ?? this.#failure)
      const element = bytesPerElement(task.call.dtype)
      const at = this.#addressOf(task) ?? 0
      const whole = this.#foreign && staysWhole(task.call)
      const most = whole ? Number.POSITIVE_INFINITY : PIECE_BYTES / element
      const pieces = piecesOf(task, channel.ranks.length, most)
      let sent = 0
      let left = pieces.length
      const done = (bytesSent: number) => {
        sent += bytesSent
        if (--left === 0) resolve(sent)
      }
      for (const piece of pieces) {
        const bytes = piece.elements * element
        this.#queued.push({ piece, channel: channel.id, links, flight: undefined, bytes, at, done, reject })
      }
      this.#start()
    })
  }

  /** Keeps the process alive until this has settled. */
  async track<T>(running: Promise<T>): Promise<T> {
    if (this.#inFlight.size === 0) this.#worker.ref()
    this.#inFlight.add(running)
    try {
      return await running
    } finally {
      this.#inFlight.delete(running)
      this.settled()
    }
  }

  /** With nothing in flight, a process that has ended its script must be able to end. */
  settled(): void {
    if (this.#inFlight.size === 0 && !this.#closing) this.#worker.unref()
  }

  /** Settles once all that is tracked has. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#inFlight])
  }

  async ask(channel: Channel, graceMs: number): Promise<ReadonlyMap<number, Frame>> {
    const told = new Promise<ReadonlyMap<number, Frame>>((resolve) => this.#asking.set(channel.id, resolve))
    this.post({ type: 'ask', channel, graceMs })
    return told
  }

  async close(): Promise<void> {
    if (this.#ended) return
    this.#closing = true
    this.#worker.ref()
    this.post({ type: 'close' })
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

  async terminate(): Promise<void> {
    await this.#worker.terminate()
  }

  /** Hands what is queued to the worker, in order, as far as there is staging memory. */
  #start(): void {
    for (let flying = this.#queued[0]; flying; flying = this.#queued[0]) {
      const { piece, channel, links } = flying
      try {
        flying.flight ??= links.note(piece.call)
      } catch (error) {
        this.#queued.shift()
        flying.reject(error as Error)
        continue
      }
      if (!this.#stage(flying)) return
      this.#queued.shift()
      const id = ++this.#lastId
      this.#flying.set(id, flying)
      const { sequence } = flying.flight
      this.post({
        type: 'run',
        id,
        channel,
        sequence,
        call: piece.call,
        elements: piece.elements,
        at: flying.at,
      })
    }
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
    else if (message.type === 'ended') this.failed(fromRecord(message.failure) as CollectiveError)
    else if (message.type === 'told') this.#told(message)
    else if (message.type === 'broken') this.#end(fromRecord(message.failure))
    else if (message.type === this.#awaited?.type) this.#awaited.resolve(message)
  }

  #done({ id, bytes }: Extract<FromWorker, { type: 'done' }>): void {
    const flying = this.#flying.get(id)!
    this.#flying.delete(id)
    const { piece, at, links } = flying
    links.recorder.end(flying.flight!)
    if (typeof at === 'number') {
      for (const output of piece.outputs) bytesOf(output.data).set(this.#staged(piece, at, output))
      this.#staging.giveBack(at, flying.bytes)
    }
    if (this.#queued.length > 0) this.#start()
    flying.done(bytes)
  }

  #told({ channel, statuses }: Extract<FromWorker, { type: 'told' }>): void {
    this.#asking.get(channel)?.(statuses)
    this.#asking.delete(channel)
  }

  /** One operation failed, and with it the group: the worker answers all others in flight alike. */
  #failed({ id, failure }: Extract<FromWorker, { type: 'failed' }>): void {
    const { reject, piece, links } = this.#flying.get(id)!
    this.#flying.delete(id)
    this.#held.push(piece)
    const error = links.failure ?? fromRecord(failure)
    this.#failure ??= error
    for (const queued of this.#queued.splice(0)) queued.reject(error)
    reject(error)
  }

  /** The worker is gone, or never came as far as running anything. */
  #end(error: Error): void {
    this.#ended = true
    this.#failure ??= error
    this.#awaited?.reject(error)
    for (const { reject } of [...this.#flying.values(), ...this.#queued.splice(0)]) reject(error)
    this.#flying.clear()
    if (!this.#closing) this.failed(new CollectiveError(error.message, { cause: error }))
  }
}
