/**
 * Ranks in one thread, linked by queues: what the collectives are tested and debugged on without sockets.
 * Bytes arrive later and cut into odd pieces, as on a network. It refuses to be fast.
 */
import type { Transport, TransportEvents } from '../transport.js'

export interface MemoryOptions {
  /** The size of the pieces that bytes arrive in. */
  readonly pieceBytes?: number
}

/** One transport per rank. `crash` on one of them ends its links as a killed process would. */
export function memoryTransports(
  size: number,
  { pieceBytes = 60_001 }: MemoryOptions = {},
): MemoryTransport[] {
  const transports: MemoryTransport[] = []
  for (let rank = 0; rank < size; rank++)
    transports.push(new MemoryTransport(rank, size, pieceBytes, transports))
  return transports
}

export class MemoryTransport implements Transport {
  readonly rank: number
  readonly size: number
  readonly #pieceBytes: number
  readonly #all: readonly MemoryTransport[]
  /** By sender: what has been sent to this rank and not delivered yet; null is the end. */
  readonly #queues: (Uint8Array | null)[][]
  readonly #ended = new Set<number>()
  #events: TransportEvents | undefined

  constructor(rank: number, size: number, pieceBytes: number, all: readonly MemoryTransport[]) {
    this.rank = rank
    this.size = size
    this.#pieceBytes = pieceBytes
    this.#all = all
    this.#queues = Array.from({ length: size }, () => [])
  }

  start(events: TransportEvents): void {
    this.#events = events
    for (let peer = 0; peer < this.size; peer++) this.#schedule(peer)
  }

  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void = () => {}): void {
    queueMicrotask(left) // what is sent is copied
    if (this.#ended.has(peer)) return
    const bytes = new Uint8Array(header.length + payload.length)
    bytes.set(header)
    bytes.set(payload, header.length)
    for (let at = 0; at < bytes.length; at += this.#pieceBytes) {
      this.#all[peer]!.#push(this.rank, bytes.subarray(at, at + this.#pieceBytes))
    }
  }

  disconnect(peer: number): void {
    if (this.#ended.has(peer)) return
    this.#ended.add(peer)
    this.#all[peer]!.#push(this.rank, null)
  }

  async close(): Promise<void> {
    this.crash()
  }

  crash(): void {
    this.#events = undefined
    for (let peer = 0; peer < this.size; peer++) if (peer !== this.rank) this.disconnect(peer)
  }

  #push(sender: number, piece: Uint8Array | null): void {
    this.#queues[sender]!.push(piece)
    if (this.#queues[sender]!.length === 1) this.#schedule(sender)
  }

  #schedule(sender: number): void {
    setImmediate(() => this.#deliver(sender))
  }

  #deliver(sender: number): void {
    const queue = this.#queues[sender]!
    if (!this.#events || queue.length === 0) return
    const piece = queue.shift()
    if (!piece) {
      this.#ended.add(sender)
      this.#events.closed(sender, 'its link ended')
      return
    }
    this.#events.bytes(sender, piece)
    if (queue.length > 0) this.#schedule(sender)
  }
}
