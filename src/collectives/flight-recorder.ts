/**
 * The last operations of one channel: what a failure's report and a late frame's explanation are made of.
 * It keeps a fixed number of them and judges none.
 */
import { type Call, describeCall } from './call.js'

const KEPT = 64
const REPORTED = 10

export interface Flight {
  readonly sequence: number
  readonly call: Call
  /** Of its channel: empty for the world. */
  readonly channel: string
  /** Milliseconds of this thread's clock. */
  readonly started: number
  ended: number | undefined
}

export class FlightRecorder {
  readonly #channel: string
  readonly #flights: (Flight | undefined)[] = new Array(KEPT).fill(undefined)
  #last = 0
  /** Told of every operation that starts or ends. */
  changed: ((flight: Flight) => void) | undefined
  /** The channel's last operation, where another thread runs some of them too. */
  elsewhere: (() => Flight | undefined) | undefined

  constructor(channel = '') {
    this.#channel = channel
  }

  /** Sequence numbers start at 1: 0 means that nothing has been called yet. */
  start(call: Call, sequence = this.#last + 1): Flight {
    this.#last = sequence
    const flight: Flight = {
      sequence,
      call,
      channel: this.#channel,
      started: performance.now(),
      ended: undefined,
    }
    this.#flights[sequence % KEPT] = flight
    this.changed?.(flight)
    return flight
  }

  end(flight: Flight): void {
    flight.ended = performance.now()
    this.changed?.(flight)
  }

  /** The last one here. */
  get last(): Flight | undefined {
    return this.find(this.#last)
  }

  /** The last one of all. */
  get latest(): Flight | undefined {
    return this.elsewhere?.() ?? this.last
  }

  find(sequence: number): Flight | undefined {
    const flight = this.#flights[sequence % KEPT]
    return flight?.sequence === sequence ? flight : undefined
  }

  /** Those still known, in any order. */
  get flights(): Flight[] {
    return this.#flights.filter((flight) => flight !== undefined)
  }

  /** `reportOf` this channel alone. */
  report(now = performance.now()): string[] {
    return reportOf([this], now)
  }
}

/** As in `all_reduce(float32 × 100, sum) in the group of ranks 0, 2`. */
export function describeFlight({ call, channel }: Flight): string {
  return describeCall(call) + channel
}

/** The last few operations of all channels, oldest first, as in `#7 all_reduce(float32 × 100, sum) 1.3 ms`. */
export function reportOf(recorders: readonly FlightRecorder[], now = performance.now()): string[] {
  const flights = recorders.flatMap((recorder) => recorder.flights)
  return flights
    .sort((a, b) => a.started - b.started)
    .slice(-REPORTED)
    .map((flight) => {
      const took = `${((flight.ended ?? now) - flight.started).toFixed(1)} ms`
      const state = flight.ended === undefined ? `not ended after ${took}` : took
      return `#${flight.sequence} ${describeFlight(flight)} ${state}`
    })
}
