/**
 * What the main thread and the worker that owns the sockets say to each other. Types only.
 */
import type { Call } from './call.js'
import type { FailureRecord } from './failures.js'
import type { Address, MeshOptions } from './transports/tcp-mesh.js'

export type WorkerOptions = MeshOptions

export type ToWorker =
  | { readonly type: 'connect'; readonly addresses: readonly Address[] }
  /** `buffer` is transferred, and comes back with `done`. Its first `elements` elements are the working buffer. */
  | {
      readonly type: 'run'
      readonly id: number
      readonly call: Call
      readonly elements: number
      readonly buffer: ArrayBuffer
    }
  | { readonly type: 'close' }

export type FromWorker =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'connected' }
  | { readonly type: 'done'; readonly id: number; readonly buffer: ArrayBuffer; readonly bytesSent: number }
  | { readonly type: 'failed'; readonly id: number; readonly failure: FailureRecord }
  /** Not of one operation: listening or connecting failed. */
  | { readonly type: 'broken'; readonly failure: FailureRecord }
  | { readonly type: 'closed' }
