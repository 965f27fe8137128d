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
import { CollectiveError } from './failures.js'
import { type Flight, FlightRecorder } from './flight-recorder.js'
import { Links } from './links.js'
import { reduceScatter } from './reduce-scatter.js'
import type { Transport } from './transport.js'
import type { Frame } from './wire/frame.js'

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
    const awaited = this.links.awaited
    const statuses = await this.links.ask(GRACE_MS)
    if (flight.ended !== undefined) return
    const { sequence, call } = flight
    const what = `${describeCall(call)}, operation ${sequence} of rank ${this.links.rank}, `
    const silence = `made no progress for ${this.#timeoutMs / 1000} s`
    this.links.fail(
      new CollectiveError(
        `${what}${silence}: ${this.#missing(sequence, awaited, statuses)}; see what they are doing, or raise the timeout (LOCKSTEP_TIMEOUT, in seconds)`,
      ),
    )
  }

  #missing(sequence: number, awaited: readonly number[], statuses: ReadonlyMap<number, Frame>): string {
    const missing: string[] = []
    for (let peer = 0; peer < this.links.size; peer++) {
      if (peer === this.links.rank) continue
      const status = statuses.get(peer)
      if (!status) missing.push(`rank ${peer} does not answer`)
      else if (status.sequence < sequence) missing.push(`rank ${peer} has not called it (${lastOf(status)})`)
    }
    if (missing.length > 0) return missing.join(', ')
    const silent = awaited.length > 0 ? `rank ${awaited.join(', rank ')}` : 'the links that it sends on'
    return `all ranks have called it, but nothing moves from ${silent}`
  }
}

function lastOf({ sequence, call }: Frame): string {
  return call ? `its last is operation ${sequence}, ${describeCall(call)}` : 'it has called none yet'
}
