/**
 * A communicator whose collectives run in the caller's own thread, over any transport. Simple to test and to debug;
 * a rank that computes does not send meanwhile, which is what worker-runner.ts has a worker for.
 */
import { allocate, bytesOf, bytesPerElement } from './call.js'
import { type Channel, worldChannel } from './channel.js'
import type { Communicator } from './communicator.js'
import type { Engine } from './engine.js'
import type { Links } from './links.js'
import { CheckedCommunicator, type Runner, type Task } from './runner.js'
import { singleRank } from './single.js'
import { Station } from './station.js'
import { inPlace } from './task.js'
import type { Transport } from './transport.js'

export interface InThreadOptions {
  /** A collective fails once nothing has moved for this long. */
  readonly timeoutMs?: number
}

export function inThread(transport: Transport, { timeoutMs = 60_000 }: InThreadOptions = {}): Communicator {
  if (transport.size === 1) return singleRank()
  const station = new Station(transport, timeoutMs)
  return new CheckedCommunicator(
    new InThreadRunner(station, worldChannel(transport.size), () => station.close()),
  )
}

export class InThreadRunner implements Runner {
  readonly #station: Station
  readonly #engine: Engine
  readonly #leave: () => Promise<void>
  readonly #inner = new Map<number, InThreadRunner>()

  constructor(station: Station, channel: Channel, leave: () => Promise<void> = async () => {}) {
    this.#station = station
    this.#engine = station.open(channel)
    this.#leave = leave
  }

  get links(): Links {
    return this.#engine.links
  }

  get rank(): number {
    return this.#engine.links.rank
  }

  get size(): number {
    return this.#engine.links.size
  }

  get bytesSent(): number {
    return [...this.#inner.values()].reduce(
      (sum, runner) => sum + runner.bytesSent,
      this.#engine.links.bytesSent,
    )
  }

  async run(task: Task): Promise<void> {
    const { call, input, output } = task
    const work = inPlace(task) ?? allocate(call.dtype, task.elements)
    const at = (element: number) => element * bytesPerElement(call.dtype)
    if (input && input.data !== work) bytesOf(work).set(bytesOf(input.data), at(input.at))
    await this.#engine.run(call, work)
    if (!output || output.data === work) return
    bytesOf(output.data).set(bytesOf(work.subarray(output.at, output.at + output.data.length)))
  }

  group(channel: Channel): Runner {
    let runner = this.#inner.get(channel.id)
    if (!runner) {
      runner = new InThreadRunner(this.#station, channel)
      this.#inner.set(channel.id, runner)
    }
    return runner
  }

  async close(): Promise<void> {
    await this.#engine.idle()
    await this.#leave()
  }
}
