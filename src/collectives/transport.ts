/**
 * What a transport can do: carry bytes, in order, from this rank to each other one and back.
 * It refuses to know frames, operations and numbers: links.ts puts them on top, the same for every transport.
 */

/** What a transport tells its user. Never called before `start`, nor after `close` was called. */
export interface TransportEvents {
  /**
   * Bytes from `peer`, valid during this call only. False: nothing more from this peer until `resume(peer)`,
   * so that a rank that runs ahead fills its own memory and not ours.
   */
  bytes(peer: number, bytes: Uint8Array): boolean
  /** Something that was written to `peer` has left. */
  written(peer: number): void
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
   * as they are until `flushed`. Silently nothing if the link is gone: `closed` tells.
   */
  write(peer: number, header: Uint8Array, payload: Uint8Array): void
  /** Settles once all that was written has left, or can no longer leave because its link is gone. */
  flushed(): Promise<void>
  /** Ends the pause that `bytes` returning false began. */
  resume(peer: number): void
  /** Gives the link to `peer` up, in both directions and at once. */
  disconnect(peer: number): void
  /** Sends what is written, then frees everything. Never rejects. */
  close(): Promise<void>
}
