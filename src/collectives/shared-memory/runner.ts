/**
 * Runs one rank's collectives over shared memory, in the caller's thread and in the order given: the first at once,
 * before `run` returns, as far as no other rank is late. It checks no argument: that is `CheckedCommunicator`'s part.
 */
import { LockstepError } from '../../errors.js'
import { type Call, describeCall } from '../call.js'
import { CollectiveError } from '../failures.js'
import type { Runner, Task } from '../runner.js'
import { COLLECTIVES } from './collectives.js'
import { SHARE } from './fingerprint.js'
import type { Group } from './group.js'
import { requireOwnPages, shareMemory } from './share.js'
import type { System } from './system.js'

/** Returns no promise if it has ended when it returns. */
type Work = () => Promise<void> | undefined

const SETTLED = Promise.resolve()

interface Waiting {
  readonly call: Call
  readonly work: Work
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export interface SharedMemoryRunnerOptions {
  /** The largest WebAssembly.Memory to map all ranks' parts of a shared array into; more of them are made if needed. */
  readonly windowBytes: number
  readonly rootProcess: number
  /** Frees what connecting took. */
  readonly release: () => void
}

export class SharedMemoryRunner implements Runner {
  readonly rank: number
  readonly size: number
  readonly #group: Group
  readonly #system: System
  readonly #options: SharedMemoryRunnerOptions
  readonly #queue: Waiting[] = []
  #running = false
  #closed = false
  /** Resolves `close` once nothing runs any more. */
  #idle: (() => void) | undefined

  constructor(group: Group, system: System, options: SharedMemoryRunnerOptions) {
    this.rank = group.rank
    this.size = group.size
    this.#group = group
    this.#system = system
    this.#options = options
  }

  get bytesSent(): number {
    return this.#group.bytesSent
  }

  run(task: Task): Promise<void> {
    return this.#inOrder(task.call, () => COLLECTIVES[task.call.operation]!(this.#group, task))
  }

  /** @returns why `data` is not shared now, if it is not. */
  async share(data: Float32Array): Promise<string | undefined> {
    if (this.#closed) throw new LockstepError('share was called after close(): call it before')
    requireOwnPages(data)
    const { windowBytes, rootProcess } = this.#options
    let reason: string | undefined
    await this.#inOrder({ operation: SHARE, dtype: 'float32', count: data.length }, async () => {
      reason = await shareMemory(this.#group, this.#system, data, windowBytes, rootProcess)
    })
    return reason
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#running || this.#queue.length > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    this.#group.control.leave()
    this.#options.release()
  }

  #inOrder(call: Call, work: Work): Promise<void> {
    if (!this.#running && this.#queue.length === 0) return this.#start(call, work)
    return new Promise((resolve, reject) => this.#queue.push({ call, work, resolve, reject }))
  }

  #start(call: Call, work: Work): Promise<void> {
    this.#running = true
    let waiting: Promise<void> | undefined
    let started: number
    try {
      started = this.#group.control.begin(call)
      waiting = work()
    } catch (error) {
      return Promise.reject(this.#failed(error, call))
    }
    if (waiting) {
      return waiting.then(
        () => this.#ended(),
        (error) => Promise.reject(this.#failed(error, call)),
      )
    }
    this.#ended(started) // only small ones end within this call, in microseconds
    return SETTLED
  }

  #ended(now?: number): void {
    this.#group.control.end(now)
    this.#advance()
  }

  /** What is not the group's own failure is a bug: the other ranks must not wait for this one. */
  #failed(error: unknown, call: Call): unknown {
    if (!(error instanceof CollectiveError)) {
      const reason = `rank ${this.rank} failed in ${describeCall(call)}: ${(error as Error).message}`
      this.#group.control.fail(new CollectiveError(reason, { cause: error }))
    }
    this.#advance()
    return error
  }

  #advance(): void {
    this.#running = false
    // Not now: each of a thousand in a row would lie on the stack of the one before.
    if (this.#queue.length > 0) queueMicrotask(() => this.#next())
    else this.#idle?.()
  }

  #next(): void {
    const { call, work, resolve, reject } = this.#queue.shift()!
    this.#start(call, work).then(resolve, reject)
  }
}
