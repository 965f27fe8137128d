/**
 * A communicator whose collectives run in the caller's own thread, over any transport. Simple to test and to debug;
 * a rank that computes does not send meanwhile, which is what tcp-communicator.ts has a worker for.
 */
import { allocate, bytesOf, bytesPerElement } from './call.js'
import type { Communicator, Numbers } from './communicator.js'
import { Engine } from './engine.js'
import { CheckedCommunicator, type Runner, type Task } from './runner.js'
import { singleRank } from './single.js'
import type { Transport } from './transport.js'

export interface InThreadOptions {
  /** A collective fails once nothing has moved for this long. */
  readonly timeoutMs?: number
}

export function inThread(transport: Transport, { timeoutMs = 60_000 }: InThreadOptions = {}): Communicator {
  if (transport.size === 1) return singleRank()
  return new CheckedCommunicator(new InThreadRunner(transport, timeoutMs))
}

class InThreadRunner implements Runner {
  readonly rank: number
  readonly size: number
  readonly #engine: Engine

  constructor(transport: Transport, timeoutMs: number) {
    this.rank = transport.rank
    this.size = transport.size
    this.#engine = new Engine(transport, timeoutMs)
  }

  get bytesSent(): number {
    return this.#engine.links.bytesSent
  }

  async run(task: Task): Promise<void> {
    const { call, input, output } = task
    const work = workingBuffer(task)
    const at = (element: number) => element * bytesPerElement(call.dtype)
    if (input && input.data !== work) bytesOf(work).set(bytesOf(input.data), at(input.at))
    await this.#engine.run(call, work)
    if (!output || output.data === work) return
    bytesOf(output.data).set(bytesOf(work.subarray(output.at, output.at + output.data.length)))
  }

  close(): Promise<void> {
    return this.#engine.close()
  }
}

/** The user's own array where the collective may write all of it, or only reads it; else memory of our own. */
function workingBuffer({ call, elements, input, output }: Task): Numbers {
  if (output?.data.length === elements) return output.data
  if (input && !output) return input.data
  return allocate(call.dtype, elements)
}
