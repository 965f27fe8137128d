/**
 * Bytes of a rank -> whole lines, as a terminal would show them. Knows nothing of ranks, and never decodes: a
 * newline byte is never part of another UTF-8 character, so whole lines are whole characters.
 */

const NEWLINE = 0x0a
const RETURN = 0x0d

export interface LineListener {
  /** A finished line, without its line break. */
  line(bytes: Buffer): void
  /** What a live line (see LIVE_VARIABLE) shows now; empty when it is taken away. */
  live(bytes: Buffer): void
}

/** Cuts one stream into lines. What a carriage return has overwritten is dropped, so progress bars cost no memory. */
export class LineSplitter {
  readonly #listener: LineListener
  /** The unfinished line, in pieces: joined once, however many there are. */
  #pending: Buffer[] = []

  constructor(listener: LineListener) {
    this.#listener = listener
  }

  push(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#pending.push(chunk.subarray(start, end))
      this.#finish()
      start = end + 1
    }
    if (start === chunk.length) return
    const rest = chunk.subarray(start)
    this.#pending.push(rest)
    if (rest.includes(RETURN)) this.#showLive()
  }

  /** The stream has ended: an unfinished line becomes a line, a live one goes. */
  end(): void {
    const unfinished = Buffer.concat(this.#pending)
    if (unfinished.includes(RETURN)) this.#listener.live(Buffer.alloc(0))
    else if (unfinished.length > 0) this.#finish()
    this.#pending = []
  }

  #finish(): void {
    const whole = Buffer.concat(this.#pending)
    this.#pending = []
    const text = whole.at(-1) === RETURN ? whole.subarray(0, -1) : whole
    this.#listener.line(text.subarray(text.lastIndexOf(RETURN) + 1))
  }

  #showLive(): void {
    const all = Buffer.concat(this.#pending)
    const closed = all.at(-1) === RETURN
    const text = closed ? all.subarray(0, -1) : all
    const start = text.lastIndexOf(RETURN)
    this.#pending = [all.subarray(Math.max(start, 0))]
    this.#listener.live(text.subarray(start + 1))
  }
}
