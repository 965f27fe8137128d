/**
 * Where each byte of the ranks of one attempt goes: to files, to the screen, or both. It refuses to know how either is
 * written.
 */
import { type AttemptLogs, streamsOf } from './logs.js'
import type { StreamsByRank } from './options/forms.js'
import type { Output } from './output.js'
import type { Identity, RankListener, StreamName } from './rank-process.js'

export interface Routing {
  /** To files and not to the screen. */
  readonly redirects: StreamsByRank
  /** To files and to the screen; goes before `redirects`. */
  readonly tee: StreamsByRank
  /** Local ranks that the screen shows; undefined: all. */
  readonly shown: ReadonlySet<number> | undefined
}

export function isKept({ redirects, tee }: Routing, { localRank }: Identity, stream: StreamName): boolean {
  return streamsOf(redirects, localRank)[stream] || streamsOf(tee, localRank)[stream]
}

export class RankOutput implements RankListener {
  readonly #routing: Routing
  readonly #screen: Output
  readonly #logs: AttemptLogs | undefined

  constructor(routing: Routing, screen: Output, logs: AttemptLogs | undefined) {
    this.#routing = routing
    this.#screen = screen
    this.#logs = logs
  }

  bytes(who: Identity, stream: StreamName, chunk: Buffer): void {
    this.#logs?.write(who, stream, chunk)
  }

  line(who: Identity, stream: StreamName, bytes: Buffer): void {
    if (this.#isShown(who, stream)) this.#screen.line(who, stream, bytes)
  }

  live(who: Identity, bytes: Buffer): void {
    if (this.#isShown(who, 'stdout')) this.#screen.live(who, bytes)
  }

  #isShown(who: Identity, stream: StreamName): boolean {
    const { redirects, tee, shown } = this.#routing
    const isHidden = shown !== undefined && !shown.has(who.localRank)
    if (isHidden) return false
    if (streamsOf(tee, who.localRank)[stream]) return true
    // What no file takes any more must not be lost.
    return !streamsOf(redirects, who.localRank)[stream] || !this.#logs?.holds(who, stream)
  }
}
