/**
 * What the main thread and the worker that owns the sockets say to each other. Types only.
 */
import type { Call } from './call.js'
import type { FailureRecord } from './failures.js'
import type { Address, MeshOptions } from './transports/tcp-mesh.js'

export type WorkerOptions = MeshOptions

export type ToWorker =
  | { readonly type: 'connect'; readonly addresses: readonly Address[] }
  /** The first `elements` elements of a staging buffer are the working buffer; `buffer` comes when it is new. */
  | {
      readonly type: 'run'
      readonly id: number
      readonly call: Call
      readonly elements: number
      readonly staging: number
      readonly buffer?: SharedArrayBuffer
    }
  | { readonly type: 'forget'; readonly staging: number }
  | { readonly type: 'close' }

export type FromWorker =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'connected' }
  | { readonly type: 'done'; readonly id: number; readonly bytesSent: number }
  | { readonly type: 'failed'; readonly id: number; readonly failure: FailureRecord }
  /** Not of one operation: listening or connecting failed. */
  | { readonly type: 'broken'; readonly failure: FailureRecord }
  | { readonly type: 'closed' }
