/** What a session needs of a way into onnxruntime, and what both ways must set alike. */
import type { Bindable } from './graph.js'
import type { OnnxValue } from './onnx.js'
import type { Provider } from './onnxruntime.js'

export interface SessionOptions {
  /** Threads one run may use, the calling one included. */
  readonly threads: number
  /** Default: cpu. */
  readonly provider?: Provider
  /** Keeps a profile of every run, to be written to a file whose name begins so; undefined: none, which costs nothing. */
  readonly profile?: string | undefined
  /** Whether onnxruntime shall keep its errors to those that are thrown. */
  readonly quiet?: boolean
  /** For buffers that take turns: how many each name remembers, so that to bind one again costs nothing; 1 by default. */
  readonly remembered?: number
}

/** A session of one way into onnxruntime. */
export interface Backend {
  /** Type and shape of an untyped output, as inferred. */
  describe(name: string): OnnxValue
  bindInput(value: OnnxValue, data: Bindable): void
  unbindInput(name: string): void
  bindOutput(value: OnnxValue, data: Bindable): void
  /** Blocks the thread while it computes. @throws Error with onnxruntime's message */
  run(): Promise<void>
  endProfiling(): void
  release(): Promise<void>
}

/** onnxruntime's settings. */
export const SETTINGS = {
  /** It would set one block aside for all that a run needs, besides what the first run has filled: twice the memory. */
  memPattern: false,
  /** Fused only where the backward pass does not read the sum, it would make recomputed activations differ in the last bit. */
  disabledOptimizers: 'SkipLayerNormFusion',
} as const
