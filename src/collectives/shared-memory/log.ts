/**
 * This rank's last operations, for the report of a failure. Small messages take a microsecond: so it makes no objects.
 */
import { type Call, describeCall } from '../call.js'

const KEPT = 10

export interface Entry {
  /** From 1 on; 0 is what ranks do while they connect. */
  sequence: number
  call: Call
  /** Milliseconds of this thread's clock; 0 for an operation that has not ended. */
  started: number
  ended: number
}

export class OperationLog {
  readonly #entries: Entry[]
  #last = 0

  /** @param first what is under way before the first operation. */
  constructor(first: Call) {
    this.#entries = Array.from({ length: KEPT }, () => ({ sequence: 0, call: first, started: 0, ended: 0 }))
  }

  get last(): Entry {
    return this.#entries[this.#last % KEPT]!
  }

  begin(call: Call): Entry {
    const sequence = ++this.#last
    const entry = this.last
    entry.sequence = sequence
    entry.call = call
    entry.started = performance.now()
    entry.ended = 0
    return entry
  }

  /** Oldest first, as in `#7 all_reduce(float32 × 100, sum) 1.3 ms`. */
  report(now = performance.now()): string[] {
    return this.#entries
      .filter(({ sequence }) => sequence > 0)
      .sort((a, b) => a.sequence - b.sequence)
      .map(({ sequence, call, started, ended }) => {
        const took = `${((ended || now) - started).toFixed(1)} ms`
        return `#${sequence} ${describeCall(call)} ${ended ? took : `not ended after ${took}`}`
      })
  }
}
