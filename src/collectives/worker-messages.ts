/**
 * What the main thread and the worker that owns the links say to each other. Types only.
 */
import type { Call } from './call.js'
import type { Channel } from './channel.js'
import type { FailureRecord } from './failures.js'
import type { Address, MeshOptions, TransportKind } from './transports/mesh.js'
import type { Frame } from './wire/frame.js'

export interface WorkerOptions extends MeshOptions {
  readonly kind: TransportKind
  readonly staging: SharedArrayBuffer
  /** Whether the worker is to be given addresses. */
  readonly foreign: boolean
}

export type ToWorker =
  | { readonly type: 'connect'; readonly addresses: readonly Address[] }
  /** A channel that will be used, and the memory of its `LastCall`. */
  | { readonly type: 'open'; readonly channel: Channel; readonly last: SharedArrayBuffer }
  /** The working buffer: `elements` elements from byte `at` of the staging memory, or at an address in this process. */
  | {
      readonly type: 'run'
      readonly id: number
      readonly channel: number
      /** The operation's number in its channel. */
      readonly sequence: number
      readonly call: Call
      readonly elements: number
      readonly at: number | bigint
    }
  /** A reason to end that the links do not know. */
  | { readonly type: 'abort'; readonly failure: FailureRecord }
  | { readonly type: 'ask'; readonly channel: Channel; readonly graceMs: number }
  | { readonly type: 'close' }

export type FromWorker =
  | { readonly type: 'listening'; readonly address: Address }
  | { readonly type: 'connected' }
  /** `bytes`: what was handed to the links for it. */
  | { readonly type: 'done'; readonly id: number; readonly bytes: number }
  | { readonly type: 'failed'; readonly id: number; readonly failure: FailureRecord }
  /** The links have failed: nothing will be run any more. */
  | { readonly type: 'ended'; readonly failure: FailureRecord }
  /** The answers to what was asked about a channel. */
  | { readonly type: 'told'; readonly channel: number; readonly statuses: ReadonlyMap<number, Frame> }
  /** Not of one operation: listening or connecting failed. */
  | { readonly type: 'broken'; readonly failure: FailureRecord }
  | { readonly type: 'closed' }
