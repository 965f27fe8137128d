/**
 * This rank's last operations, for the report of a failure. Small messages take a microsecond: so it makes no objects.
 */
import { type Call, describeCall } from '../call.js'

const KEPT = 10

export interface Entry {
  /** From 1 on; 0 is what ranks do while they connect. */
  sequence: number
  call: Call
  /** Milliseconds of this thread's clock; 0 until it has to wait. */
  started: number
  /** Milliseconds; undefined for an operation that has not ended. */
  took: number | undefined
}

export class OperationLog {
  readonly #entries: Entry[]
  #last = 0

  /** @param first what is under way before the first operation. */
  constructor(first: Call) {
    this.#entries = Array.from({ length: KEPT }, () => ({
      sequence: 0,
      call: first,
      started: 0,
      took: undefined,
    }))
  }

  get last(): Entry {
    return this.#entries[this.#last % KEPT]!
  }

  begin(call: Call): void {
    const sequence = ++this.#last
    const entry = this.last
    entry.sequence = sequence
    entry.call = call
    entry.started = 0
    entry.took = undefined
  }

  /** The last operation waits: only now is it worth a look at the clock, of 50 ns. */
  waits(): void {
    this.last.started = performance.now()
  }

  end(): void {
    const { last } = this
    last.took = last.started && performance.now() - last.started
  }

  /** Oldest first, as in `#7 all_reduce(float32 × 100, sum) 1.3 ms`. */
  report(now = performance.now()): string[] {
    return this.#entries
      .filter(({ sequence }) => sequence > 0)
      .sort((a, b) => a.sequence - b.sequence)
      .map(({ sequence, call, started, took }) => {
        const ms = (took ?? now - (started || now)).toFixed(1)
        return `#${sequence} ${describeCall(call)} ${took === undefined ? `not ended after ${ms} ms` : `${ms} ms`}`
      })
  }
}
