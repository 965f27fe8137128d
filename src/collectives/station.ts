/**
 * One rank's end of everything: a transport, the switchboard on it, and an engine for each channel in use.
 */
import type { Channel } from './channel.js'
import { Engine } from './engine.js'
import type { CollectiveError } from './failures.js'
import { Switchboard, type Twin } from './switchboard.js'
import type { Transport } from './transport.js'
import type { Frame } from './wire/frame.js'

export class Station {
  readonly #board: Switchboard
  readonly #timeoutMs: number
  readonly #engines = new Map<number, Engine>()

  /** A collective fails once nothing has moved in its channel for `timeoutMs`. */
  constructor(transport: Transport, timeoutMs: number, twin?: Twin) {
    this.#board = new Switchboard(transport, twin)
    this.#timeoutMs = timeoutMs
  }

  /** The engine of a channel; the same one each time. */
  open(channel: Channel): Engine {
    let engine = this.#engines.get(channel.id)
    if (!engine) {
      engine = new Engine(this.#board.open(channel), this.#timeoutMs)
      this.#engines.set(channel.id, engine)
    }
    return engine
  }

  /** The engine of a channel that has been opened. */
  engine(id: number): Engine {
    return this.#engines.get(id)!
  }

  get failure(): CollectiveError | undefined {
    return this.#board.failure
  }

  /** Ends everything; without `tell` the other ranks are not told. */
  abort(error: CollectiveError, tell = true): void {
    this.#board.fail(error, tell)
  }

  /** Asks the other ranks of a channel where they are: by rank in the world, within `graceMs`. */
  ask(channel: Channel, graceMs: number): Promise<ReadonlyMap<number, Frame>> {
    return this.#board.ask(channel, graceMs)
  }

  /** Waits for what is in flight, says goodbye and frees the transport. */
  async close(): Promise<void> {
    await Promise.all([...this.#engines.values()].map((engine) => engine.idle()))
    await this.#board.close()
  }
}
