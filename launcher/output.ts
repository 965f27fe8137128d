/**
 * Everything that the launcher shows: the ranks' lines, each with its rank in front, and the launcher's own words.
 * One write per line, so that no line is ever torn. It refuses to reorder: a line is shown when it is finished.
 */
import { stripVTControlCharacters } from 'node:util'
import pc from 'picocolors'
import type { Identity, StreamName } from './rank-process.js'

/** What this needs of process.stdout and process.stderr. */
export interface Sink {
  write(bytes: Buffer | string, done?: () => void): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

const COLOURS = ['cyan', 'magenta', 'green', 'yellow', 'blue'] as const
const ERASE_LINE = '\r\x1b[2K'

export class Output {
  readonly #sinks: { readonly stdout: Sink; readonly stderr: Sink }
  readonly #colourless: boolean
  #live: { rank: number; text: string } | undefined
  #drawn = false

  constructor(stdout: Sink, stderr: Sink, env: NodeJS.ProcessEnv) {
    this.#sinks = { stdout, stderr }
    this.#colourless = Boolean(env.NO_COLOR)
  }

  /** Whether somebody watches, so that a line may be redrawn in place. */
  get isLive(): boolean {
    return this.#sinks.stdout.isTTY === true
  }

  /** One finished line of a rank, which goes where the rank wrote it. */
  line({ rank }: Identity, stream: StreamName, bytes: Buffer): void {
    if (this.#live?.rank === rank && stream === 'stdout') this.#live = undefined
    const prefix = this.#prefix(rank, this.#sinks[stream])
    this.#write(stream, Buffer.concat([Buffer.from(prefix), bytes, Buffer.from('\n')]))
  }

  /** A rank's live line. Dropped where nobody watches; only the latest of all ranks is shown. */
  live({ rank }: Identity, bytes: Buffer): void {
    if (!this.isLive) return
    this.#live = bytes.length > 0 ? { rank, text: bytes.toString() } : undefined
    this.#redraw()
  }

  /** The launcher's own words, on stderr. */
  say(text: string): void {
    this.#live = undefined
    this.#write('stderr', `${text}\n`)
  }

  /** Resolves when all that was shown has left this process: writing to a pipe is asynchronous. */
  async flushed(): Promise<void> {
    const flush = (sink: Sink) => new Promise<void>((resolve) => sink.write('', resolve))
    await Promise.all([flush(this.#sinks.stdout), flush(this.#sinks.stderr)])
  }

  #write(stream: StreamName, line: Buffer | string): void {
    if (this.#drawn) this.#sinks.stdout.write(ERASE_LINE)
    this.#drawn = false
    this.#sinks[stream].write(line)
    if (this.#live) this.#redraw()
  }

  #redraw(): void {
    this.#sinks.stdout.write(ERASE_LINE + this.#drawing())
    this.#drawn = this.#live !== undefined
  }

  #drawing(): string {
    if (!this.#live) return ''
    const { rank, text } = this.#live
    // A line that wraps cannot be erased by one ERASE_LINE; the last column is left alone for the same reason.
    const room = (this.#sinks.stdout.columns || 80) - `[${rank}] `.length - 1
    const plain = stripVTControlCharacters(text)
    return (
      this.#prefix(rank, this.#sinks.stdout) +
      (plain.length <= room ? text : plain.slice(0, Math.max(room, 0)))
    )
  }

  #prefix(rank: number, sink: Sink): string {
    const coloured = sink.isTTY === true && !this.#colourless
    return `${pc.createColors(coloured)[COLOURS[rank % COLOURS.length]!](`[${rank}]`)} `
  }
}
