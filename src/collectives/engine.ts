/**
 * Runs one rank's collectives over a transport, one after the other in the order they were given, and turns
 * silence into an error. It trusts its arguments: the checks are the communicator's.
 */
import { allGather } from './all-gather.js'
import { allReduce } from './all-reduce.js'
import { barrier } from './barrier.js'
import { broadcast } from './broadcast.js'
import { type Call, describeCall, type Operation } from './call.js'
import type { Numbers } from './communicator.js'
import { timedOut } from './diagnosis.js'
import { CollectiveError } from './failures.js'
import { type Flight, FlightRecorder } from './flight-recorder.js'
import { Links } from './links.js'
import { reduceScatter } from './reduce-scatter.js'
import type { Transport } from './transport.js'

/** How long ranks have to say where they are, once an operation has timed out. */
const GRACE_MS = 500

type Algorithm = (links: Links, data: Numbers, call: Call) => Promise<void>

const ALGORITHMS: Readonly<Record<Operation, Algorithm>> = {
  all_reduce: (links, data, call) => allReduce(links, data, call.reduction!),
  reduce_scatter: (links, data, call) => reduceScatter(links, data, call.reduction!),
  all_gather: (links, data) => allGather(links, data),
  broadcast: (links, data, call) => broadcast(links, data, call.root!),
  barrier: (links) => barrier(links),
}

export class Engine {
  readonly links: Links
  readonly #timeoutMs: number
  #tail: Promise<unknown> = Promise.resolve()

  constructor(transport: Transport, timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    this.links = new Links(transport, new FlightRecorder())
  }

  /**
   * Runs `call` on `data`, in place, when all earlier ones have ended. Settles when everything is received and
   * everything is written, so `data` may then be used for anything.
   */
  run(call: Call, data: Numbers): Promise<void> {
    const done = this.#tail.then(() => this.#execute(call, data))
    this.#tail = done.catch(() => {})
    return done
  }

  async close(): Promise<void> {
    await this.#tail
    await this.links.close()
  }

  async #execute(call: Call, data: Numbers): Promise<void> {
    const flight = this.links.begin(call)
    const stop = this.#watch(flight)
    try {
      await ALGORITHMS[call.operation](this.links, data, call)
      await this.links.flushed()
    } catch (cause) {
      // Not ours, so a bug in an algorithm; the other ranks must not wait for this one.
      const what = `rank ${this.links.rank} failed in ${describeCall(call)}: ${(cause as Error).message}`
      this.links.fail(new CollectiveError(what, { cause }))
      throw cause
    } finally {
      stop()
      this.links.end(flight)
    }
  }

  /** Fails the group once nothing has come or gone for the timeout. Returns how to stop watching. */
  #watch(flight: Flight): () => void {
    const check = () => {
      const left = this.links.lastProgress + this.#timeoutMs - performance.now()
      if (left > 0) timer = setTimeout(check, left)
      else void this.#expire(flight)
    }
    let timer = setTimeout(check, this.#timeoutMs)
    return () => clearTimeout(timer)
  }

  async #expire(flight: Flight): Promise<void> {
    const { rank, size, awaited } = this.links
    const statuses = await this.links.ask(GRACE_MS)
    if (flight.ended !== undefined) return
    const message = timedOut(flight, this.#timeoutMs / 1000, { rank, size, awaited, statuses })
    this.links.fail(new CollectiveError(message))
  }
}
