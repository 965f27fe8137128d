/**
 * A channel's last operation in memory that two threads see: written by the one that numbers operations, read by the worker,
 * which answers for this rank even while that thread computes.
 */
import type { Flight } from './flight-recorder.js'
import { decodeHeader, encodeHeader, HEADER_BYTES } from './wire/frame.js'

// | version i32 | ended i32 | started f64 | a status frame's header, 40 bytes |
const BYTES = 16 + HEADER_BYTES
const VERSION = 0
const ENDED = 1

export class LastCall {
  readonly memory: SharedArrayBuffer
  readonly #state: Int32Array
  readonly #started: Float64Array
  readonly #header: Uint8Array

  constructor(memory = new SharedArrayBuffer(BYTES)) {
    this.memory = memory
    this.#state = new Int32Array(memory, 0, 2)
    this.#started = new Float64Array(memory, 8, 1)
    this.#header = new Uint8Array(memory, 16, HEADER_BYTES)
  }

  write({ sequence, call, started, ended }: Flight): void {
    Atomics.add(this.#state, VERSION, 1) // odd: being written
    this.#state[ENDED] = ended === undefined ? 0 : 1
    this.#started[0] = performance.timeOrigin + started // each thread's clock has an origin of its own
    this.#header.set(encodeHeader({ kind: 'status', channel: 0, sequence, call, length: 0 }))
    Atomics.add(this.#state, VERSION, 1)
  }

  /** Undefined if there was none yet. `channel` is its name, for the flight. */
  read(channel: string): Flight | undefined {
    const header = new Uint8Array(HEADER_BYTES)
    for (;;) {
      const version = Atomics.load(this.#state, VERSION)
      if (version === 0) return undefined
      header.set(this.#header)
      const started = this.#started[0]! - performance.timeOrigin
      const ended = this.#state[ENDED] === 1 ? performance.now() : undefined
      if (version % 2 !== 0 || Atomics.load(this.#state, VERSION) !== version) continue
      const { sequence, call } = decodeHeader(header)
      return { sequence, call: call!, channel, started, ended }
    }
  }
}
