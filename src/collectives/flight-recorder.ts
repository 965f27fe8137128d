/**
 * The last operations of one rank: what a failure's report and a late frame's explanation are made of.
 * It keeps a fixed number of them and judges none.
 */
import { type Call, describeCall } from './call.js'

const KEPT = 64
const REPORTED = 5

export interface Flight {
  readonly sequence: number
  readonly call: Call
  /** Milliseconds of this thread's clock. */
  readonly started: number
  ended: number | undefined
}

export class FlightRecorder {
  readonly #flights: (Flight | undefined)[] = new Array(KEPT).fill(undefined)
  #last = 0

  /** Sequence numbers start at 1: 0 means that nothing has been called yet. */
  start(call: Call): Flight {
    const sequence = ++this.#last
    const flight: Flight = { sequence, call, started: performance.now(), ended: undefined }
    this.#flights[sequence % KEPT] = flight
    return flight
  }

  get last(): Flight | undefined {
    return this.find(this.#last)
  }

  find(sequence: number): Flight | undefined {
    const flight = this.#flights[sequence % KEPT]
    return flight?.sequence === sequence ? flight : undefined
  }

  /** The last few operations, oldest first, as in `#7 all_reduce(float32 × 100, sum) 1.3 ms`. */
  report(now = performance.now()): string[] {
    const lines: string[] = []
    for (let sequence = Math.max(1, this.#last - REPORTED + 1); sequence <= this.#last; sequence++) {
      const flight = this.find(sequence)!
      const took = `${((flight.ended ?? now) - flight.started).toFixed(1)} ms`
      const state = flight.ended === undefined ? `not ended after ${took}` : took
      lines.push(`#${sequence} ${describeCall(flight.call)} ${state}`)
    }
    return lines
  }
}
