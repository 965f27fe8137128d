/**
 * What a transport can do: carry bytes, in order, from this rank to each other one and back.
 * It refuses to know frames, operations and numbers: switchboard.ts puts them on top, the same for every transport.
 */

/** What a transport tells its user. Never called before `start`, nor after `close` was called. */
export interface TransportEvents {
  /** Bytes from `peer`, valid during this call only. All are taken: what bounds them is the frames' window. */
  bytes(peer: number, bytes: Uint8Array): void
  /**
   * Where the next bytes from `peer` are wanted; undefined: anywhere. A transport that can reads there, then gives
   * `bytes` that very memory; one that cannot need not ask.
   */
  space(peer: number): Uint8Array | undefined
  /** Nothing will come from `peer` any more, and everything that came has been given to `bytes`. */
  closed(peer: number, reason: string): void
}

export interface Transport {
  readonly rank: number
  readonly size: number
  /** Begins to deliver. Called once. */
  start(events: TransportEvents): void
  /**
   * Hands a header and its payload to the link to `peer`, in order and without waiting. Neither is copied: both stay
   * as they are until `left` is called, which is when they have left this process or no longer can: perhaps before
   * `write` returns.
   */
  write(peer: number, header: Uint8Array, payload: Uint8Array, left: () => void): void
  /** Gives the link to `peer` up, in both directions and at once. */
  disconnect(peer: number): void
  /** From now on the links alone keep no process alive, where they otherwise would. */
  unref?(): void
  /** Sends what is written, then frees everything. Never rejects. */
  close(): Promise<void>
}
