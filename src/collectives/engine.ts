/**
 * Runs one rank's collectives in one channel, one after the other in the order they were given, and turns silence
 * into an error. It trusts its arguments: the checks are the communicator's.
 */
import { allGather, allGatherUneven } from './all-gather.js'
import { allReduce } from './all-reduce.js'
import { allToAll } from './all-to-all.js'
import { barrier } from './barrier.js'
import { broadcast } from './broadcast.js'
import type { Call, Operation } from './call.js'
import type { Numbers } from './communicator.js'
import { timedOut } from './diagnosis.js'
import { CollectiveError } from './failures.js'
import { describeFlight, type Flight } from './flight-recorder.js'
import { gather } from './gather.js'
import type { Links } from './links.js'
import { reduceScatter } from './reduce-scatter.js'
import { reduceToRoot } from './reduce-to-root.js'
import { scatter } from './scatter.js'
import { sendReceive } from './send-receive.js'

/** How long ranks have to say where they are, once an operation has timed out. */
const GRACE_MS = 500

/** What a collective does to the working buffer of a `Task` (task.ts). */
type Algorithm = (links: Links, data: Numbers, call: Call) => Promise<void>

const ALGORITHMS: Readonly<Record<Operation, Algorithm>> = {
  all_reduce: (links, data, call) => allReduce(links, data, call.reduction!),
  reduce_scatter: (links, data, call) => reduceScatter(links, data, call.reduction!),
  all_gather: (links, data) => allGather(links, data),
  all_gather_uneven: (links, data, call) => allGatherUneven(links, data, call.counts!),
  broadcast: (links, data, call) => broadcast(links, data, call.root!),
  reduce: (links, data, call) => reduceToRoot(links, data, call.reduction!, call.root!),
  gather: (links, data, call) => gather(links, data, call.root!),
  scatter: (links, data, call) => scatter(links, data, call.root!),
  all_to_all: (links, data) => allToAll(links, data),
  send_recv: (links, data) => sendReceive(links, data),
  barrier: (links) => barrier(links),
  hierarchical_all_reduce: (links) => barrier(links), // its numbers travel in other channels
}

export class Engine {
  readonly links: Links
  readonly #timeoutMs: number
  #tail: Promise<unknown> = Promise.resolve()

  constructor(links: Links, timeoutMs: number) {
    this.links = links
    this.#timeoutMs = timeoutMs
  }

  /**
   * Runs `call` on `data`, in place, when all earlier ones have ended. Settles when everything is received and
   * everything is written, so `data` may then be used for anything.
   * @param sequence its number in the channel, where this engine does not run all of them.
   * @returns the payload bytes handed to the links.
   */
  run(call: Call, data: Numbers, sequence?: number): Promise<number> {
    const done = this.#tail.then(() => this.#execute(call, data, sequence))
    this.#tail = done.catch(() => {})
    return done
  }

  /** Settles once all that was given has ended, well or not. */
  async idle(): Promise<void> {
    await this.#tail
  }

  async #execute(call: Call, data: Numbers, sequence?: number): Promise<number> {
    const { bytesSent } = this.links
    const flight = this.links.begin(call, sequence)
    const stop = this.#watch(flight)
    try {
      await ALGORITHMS[call.operation](this.links, data, call)
      await this.links.flushed()
      return this.links.bytesSent - bytesSent
    } catch (cause) {
      // Not ours, so a bug in an algorithm; the other ranks must not wait for this one.
      const what = `a rank failed in ${describeFlight(flight)}: ${(cause as Error).message}`
      this.links.fail(new CollectiveError(what, { cause }))
      throw cause
    } finally {
      stop()
      this.links.end(flight)
    }
  }

  /** Fails the channel once nothing has come or gone for the timeout. Returns how to stop watching. */
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
    const { awaited, members } = this.links
    const statuses = await this.links.ask(GRACE_MS)
    if (flight.ended !== undefined) return
    const rank = members[this.links.rank]!
    const message = timedOut(flight, this.#timeoutMs / 1000, { rank, members, awaited, statuses })
    this.links.fail(new CollectiveError(message))
  }
}
