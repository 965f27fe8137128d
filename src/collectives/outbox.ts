/**
 * What one channel sends to one peer: at once as far as the window reaches, the rest as the peer takes what it has.
 * So a channel whose receiver is late stops by itself, and the other channels on the same link go on.
 */
import { HEADER_BYTES, WINDOW_BYTES } from './wire/frame.js'

interface Letter {
  readonly header: Uint8Array
  readonly payload: Uint8Array
}

export class Outbox {
  readonly #write: (header: Uint8Array, payload: Uint8Array) => void
  #window = WINDOW_BYTES
  #queue: Letter[] = []

  constructor(write: (header: Uint8Array, payload: Uint8Array) => void) {
    this.#write = write
  }

  /** Something waits for the peer to take what it has. */
  get blocked(): boolean {
    return this.#queue.length > 0
  }

  send(header: Uint8Array, payload: Uint8Array): void {
    if (this.#window > 0) this.#pass(header, payload)
    else this.#queue.push({ header, payload })
  }

  /** The peer has taken `bytes`, headers included. */
  credit(bytes: number): void {
    this.#window += bytes
    while (this.#window > 0) {
      const letter = this.#queue.shift()
      if (!letter) return
      this.#pass(letter.header, letter.payload)
    }
  }

  clear(): void {
    this.#queue = []
  }

  #pass(header: Uint8Array, payload: Uint8Array): void {
    this.#window -= HEADER_BYTES + payload.length
    this.#write(header, payload)
  }
}
