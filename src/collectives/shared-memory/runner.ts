/**
 * Runs one rank's collectives over shared memory, in the caller's thread and in the order given: the first at once,
 * before `run` returns, as far as no other rank is late. It checks no argument: that is `CheckedCommunicator`'s part.
 */
import { type Call, describeCall } from '../call.js'
import type { Channel } from '../channel.js'
import { CollectiveError } from '../failures.js'
import type { Runner, Task } from '../task.js'
import { openChannel, type World } from './channels.js'
import { COLLECTIVES } from './collectives.js'
import type { Group } from './group.js'

/** Returns no promise if it has ended when it returns. */
export type Work = (group: Group) => Promise<void> | undefined

const SETTLED = Promise.resolve()

interface Waiting {
  readonly call: Call
  readonly work: Work
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** The operations of one channel, one after the other. */
export class ChannelRunner implements Runner {
  readonly rank: number
  readonly size: number
  readonly #world: World
  readonly #channel: Channel
  readonly #inner = new Map<number, ChannelRunner>()
  readonly #queue: Waiting[] = []
  /** Undefined until the first operation of a channel that is not the world. */
  #group: Group | undefined
  #running = false
  /** Resolves `idle` once nothing runs any more. */
  #resting: (() => void)[] = []

  constructor(world: World, channel: Channel, group?: Group) {
    this.rank = channel.ranks.indexOf(world.fate.rank)
    this.size = channel.ranks.length
    this.#world = world
    this.#channel = channel
    this.#group = group
  }

  get bytesSent(): number {
    const inner = [...this.#inner.values()].reduce((sum, runner) => sum + runner.bytesSent, 0)
    return inner + (this.#group?.bytesSent ?? 0)
  }

  run(task: Task): Promise<void> {
    return this.inOrder(task.call, (group) => COLLECTIVES[task.call.operation](group, task))
  }

  group(channel: Channel): ChannelRunner {
    const known = this.#inner.get(channel.id)
    if (known) return known
    const runner = new ChannelRunner(this.#world, channel)
    this.#inner.set(channel.id, runner)
    return runner
  }

  /** Settles once nothing is in flight, here and in the channels within. */
  async close(): Promise<void> {
    if (this.#running || this.#queue.length > 0) {
      await new Promise<void>((resolve) => this.#resting.push(resolve))
    }
    await Promise.all([...this.#inner.values()].map((runner) => runner.close()))
  }

  inOrder(call: Call, work: Work): Promise<void> {
    if (!this.#running && this.#queue.length === 0) return this.#start(call, work)
    return new Promise((resolve, reject) => this.#queue.push({ call, work, resolve, reject }))
  }

  #start(call: Call, work: Work): Promise<void> {
    this.#running = true
    if (!this.#group) return this.#first(call, work)
    const { control } = this.#group
    let waiting: Promise<void> | undefined
    try {
      control.begin(call)
      waiting = work(this.#group)
    } catch (error) {
      return Promise.reject(this.#failed(error, call))
    }
    if (waiting) {
      control.waits()
      return waiting.then(
        () => this.#ended(),
        (error) => Promise.reject(this.#failed(error, call)),
      )
    }
    this.#ended()
    return SETTLED
  }

  async #first(call: Call, work: Work): Promise<void> {
    let opened: Awaited<ReturnType<typeof openChannel>>
    try {
      this.#world.fate.orderly()
      opened = await openChannel(this.#world, this.#channel, call)
    } catch (error) {
      throw this.#failed(error, call)
    }
    this.#group = opened.group
    try {
      await this.#start(call, work)
    } finally {
      opened.met()
    }
  }

  #ended(): void {
    this.#group!.control.end()
    this.#advance()
  }

  /** What is not the world's own failure is a bug: the other ranks must not wait for this one. */
  #failed(error: unknown, call: Call): unknown {
    const { fate } = this.#world
    if (!(error instanceof CollectiveError)) {
      const what = `rank ${fate.nameOf(fate.rank)} failed in ${describeCall(call)}${this.#channel.name}`
      fate.fail(new CollectiveError(`${what}: ${(error as Error).message}`, { cause: error }))
    } else fate.fail(error)
    this.#advance()
    return error
  }

  #advance(): void {
    this.#running = false
    // Not now: each of a thousand in a row would lie on the stack of the one before.
    if (this.#queue.length > 0) queueMicrotask(() => this.#next())
    else if (this.#resting.length > 0) for (const resolve of this.#resting.splice(0)) resolve()
  }

  #next(): void {
    const { call, work, resolve, reject } = this.#queue.shift()!
    this.#start(call, work).then(resolve, reject)
  }
}
