/**
 * Runs one rank's collectives over shared memory, in the caller's thread and in the order given: the first at once,
 * before `run` returns, as far as no other rank is late. It checks no argument: that is `CheckedCommunicator`'s part.
 */
import { LockstepError } from '../../errors.js'
import { describeCall } from '../call.js'
import { CollectiveError } from '../failures.js'
import type { Runner, Task } from '../runner.js'
import { COLLECTIVES } from './collectives.js'
import { SHARE } from './fingerprint.js'
import type { Group } from './group.js'
import { requireOwnPages, shareMemory } from './share.js'
import type { System } from './system.js'

interface Waiting {
  readonly start: () => Promise<void>
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
    return this.#inOrder(() => this.#execute(task))
  }

  /** @returns why `data` is not shared now, if it is not. */
  async share(data: Float32Array): Promise<string | undefined> {
    if (this.#closed) throw new LockstepError('share was called after close(): call it before')
    requireOwnPages(data)
    let reason: string | undefined
    await this.#inOrder(async () => {
      reason = await this.#share(data)
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

  #inOrder(start: () => Promise<void>): Promise<void> {
    if (!this.#running && this.#queue.length === 0) return start()
    return new Promise((resolve, reject) => this.#queue.push({ start, resolve, reject }))
  }

  async #execute(task: Task): Promise<void> {
    this.#running = true
    const { control } = this.#group
    try {
      control.begin(task.call)
      await COLLECTIVES[task.call.operation]!(this.#group, task)
      control.end()
    } catch (error) {
      throw this.#failed(error, `failed in ${describeCall(task.call)}`)
    } finally {
      this.#ended()
    }
  }

  async #share(data: Float32Array): Promise<string | undefined> {
    this.#running = true
    const call = { operation: SHARE, dtype: 'float32', count: data.length } as const
    const { windowBytes, rootProcess } = this.#options
    try {
      this.#group.control.begin(call)
      const reason = await shareMemory(this.#group, this.#system, data, windowBytes, rootProcess)
      this.#group.control.end()
      return reason
    } catch (error) {
      throw this.#failed(error, `failed in ${describeCall(call)}`)
    } finally {
      this.#ended()
    }
  }

  /** What is not the group's own failure is a bug: the other ranks must not wait for this one. */
  #failed(error: unknown, what: string): unknown {
    if (error instanceof CollectiveError) return error
    const reason = `rank ${this.rank} ${what}: ${(error as Error).message}`
    this.#group.control.fail(new CollectiveError(reason, { cause: error }))
    return error
  }

  #ended(): void {
    this.#running = false
    // Not now: each of a thousand in a row would lie on the stack of the one before.
    if (this.#queue.length > 0) queueMicrotask(() => this.#next())
    else this.#idle?.()
  }

  #next(): void {
    const { start, resolve, reject } = this.#queue.shift()!
    start().then(resolve, reject)
  }
}
