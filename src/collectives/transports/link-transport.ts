/**
 * A transport made of links, one to every other rank, whatever carries them. It refuses to connect them (link-mesh.ts does).
 */
import type { Transport, TransportEvents } from '../transport.js'
import type { Receiving, Sending } from './link.js'

/** How long the receiving half of a link has to say why the sending half broke. */
const EXPLAIN_MS = 250

/** Both halves of the link to one peer. */
export interface Link {
  readonly receiving: Receiving
  readonly sending: Sending
}

export class LinkTransport implements Transport {
  readonly rank: number
  readonly size: number
  readonly #links: readonly (Link | undefined)[]
  #events: TransportEvents | undefined

  /** `links` by rank, with none at this rank's own. */
  constructor(rank: number, links: readonly (Link | undefined)[]) {
    this.rank = rank
    this.size = links.length
    this.#links = links
  }

  start(events: TransportEvents): void {
    this.#events = events
    this.#links.forEach((link, peer) => {
      if (link) this.#listen(peer, link)
    })
  }

  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void): void {
    this.#links[peer]!.sending.write(header, payload, left)
  }

  disconnect(peer: number): void {
    const { receiving, sending } = this.#links[peer]!
    receiving.destroy()
    sending.destroy()
  }

  unref(): void {
    for (const link of this.#links) {
      link?.receiving.unref()
      link?.sending.unref()
    }
  }

  async close(): Promise<void> {
    this.#events = undefined
    const links = this.#links.filter((link) => link !== undefined)
    await Promise.all(links.map(({ sending }) => sending.end()))
    for (const { receiving, sending } of links) {
      receiving.destroy()
      sending.destroy()
    }
  }

  #listen(peer: number, { receiving, sending }: Link): void {
    let over = false
    const closed = (reason: string) => {
      if (over) return
      over = true
      this.#events?.closed(peer, reason)
    }
    receiving.start(
      (bytes) => this.#events?.bytes(peer, bytes),
      () => this.#events?.space(peer),
      closed,
    )
    // If the sending half breaks, the other one usually knows why, in order.
    sending.start(() => setTimeout(() => closed('its connection broke'), EXPLAIN_MS).unref())
  }
}
