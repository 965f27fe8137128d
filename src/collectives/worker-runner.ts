/**
 * Runs a rank's collectives in two places, each with links of its own: small ones in the caller's thread, since handing them
 * to another one and back takes longer than the operation; large ones, and all of a background group, in a worker, so that a
 * rank that computes keeps sending. Operations are numbered here, and run in the order they were called, wherever.
 */
import { bytesPerElement, type Call } from './call.js'
import type { Channel } from './channel.js'
import type { CollectiveError } from './failures.js'
import { InThreadRunner } from './in-thread-communicator.js'
import { LastCall } from './last-call.js'
import { workingElements } from './pieces.js'
import type { Station } from './station.js'
import type { Runner, Task } from './task.js'
import type { WorkerLink } from './worker-link.js'

/** The largest working buffer that is small. */
export const NEAR_BYTES = 256 * 1024

export class WorkerRunner implements Runner {
  readonly rank: number
  readonly size: number
  readonly #station: Station
  readonly #link: WorkerLink
  readonly #channel: Channel
  readonly #near: InThreadRunner
  readonly #inner = new Map<number, WorkerRunner>()
  readonly #inFlight = new Set<Promise<unknown>>()
  /** Where the latest call runs, and what it and those behind it wait for: all that were called before in the other place. */
  #nearby = true
  #turn: Promise<unknown> | undefined
  #farBytes = 0

  constructor(station: Station, link: WorkerLink, channel: Channel) {
    this.#station = station
    this.#link = link
    this.#channel = channel
    this.#near = new InThreadRunner(station, channel)
    this.rank = this.#near.rank
    this.size = this.#near.size
    const last = new LastCall()
    this.#near.links.recorder.changed = (flight) => last.write(flight)
    link.post({ type: 'open', channel, last: last.memory })
  }

  get bytesSent(): number {
    const own = this.#near.bytesSent + this.#farBytes
    return [...this.#inner.values()].reduce((sum, runner) => sum + runner.bytesSent, own)
  }

  run(task: Task): Promise<void> {
    const near = !this.#channel.background && isSmall(task.call, this.size)
    if (near !== this.#nearby) {
      this.#nearby = near
      this.#turn = this.#inFlight.size > 0 ? Promise.allSettled(this.#inFlight) : undefined
    }
    const start = () => (near ? this.#near.run(task) : this.#far(task))
    return this.#track(this.#turn ? this.#turn.then(start) : start())
  }

  group(channel: Channel): Runner {
    let runner = this.#inner.get(channel.id)
    if (!runner) {
      runner = new WorkerRunner(this.#station, this.#link, channel)
      this.#inner.set(channel.id, runner)
    }
    return runner
  }

  abort(error: CollectiveError): void {
    this.#station.abort(error)
  }

  /** The world's closes the links; that of a group only waits. */
  async close(): Promise<void> {
    if (this.#channel.id !== 0) {
      await Promise.allSettled(this.#inFlight)
      return
    }
    await this.#link.idle()
    await Promise.all([this.#station.close(), this.#link.close()])
  }

  async #far(task: Task): Promise<void> {
    const bytes = await this.#link.run(this.#channel, this.#near.links, task)
    this.#farBytes += bytes // not += await: others end meanwhile
  }

  async #track(running: Promise<void>): Promise<void> {
    this.#inFlight.add(running)
    try {
      await this.#link.track(running)
    } finally {
      this.#inFlight.delete(running)
    }
  }
}

/** A function of what all ranks agree on: they must meet on the same links. */
function isSmall(call: Call, size: number): boolean {
  return workingElements(call, size) * bytesPerElement(call.dtype) <= NEAR_BYTES
}
