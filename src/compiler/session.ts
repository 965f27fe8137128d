/**
 * An onnxruntime session: a model's bytes in, native runs out. It knows feeds, fetches and execution providers;
 * it knows nothing of TensorFlow.js.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import type { Numbers } from './graph.js'
import { encodeModel, type OnnxGraph, type OnnxValue } from './onnx.js'
import { loadOrt, type Ort, type Provider } from './onnxruntime.js'

export interface SessionOptions {
  /** Threads one run may use, the calling one included. */
  readonly threads: number
  /** Default: cpu. */
  readonly provider?: Provider
  /** Keeps a profile of every run, to be written to a file whose name begins so; undefined: none, which costs nothing. */
  readonly profile?: string | undefined
  /** Whether onnxruntime shall keep its errors to those that are thrown. */
  readonly quiet?: boolean
}

/** Named buffers for a session's inputs or outputs; the session reads and writes them in place. */
export type Buffers = ReadonlyMap<string, Numbers>

/**
 * A compiled graph. `bind` ties names to buffers once (parameters, gradients); `run` takes the rest.
 * A run blocks the calling thread until it is done. Buffers may be views of an ArrayBuffer or of a non-shared
 * WebAssembly.Memory; a SharedArrayBuffer is refused by onnxruntime.
 */
export class Session {
  private readonly feeds: Record<string, Tensor> = {}
  private readonly fetches: Record<string, Tensor> = {}

  private constructor(
    private readonly ort: Ort,
    private readonly session: InferenceSession,
    private readonly inputs: readonly OnnxValue[],
    /** The untyped ones too, with what onnxruntime has inferred. */
    readonly outputs: readonly OnnxValue[],
  ) {}

  static async create(
    graph: OnnxGraph,
    { threads, provider = 'cpu', profile, quiet = false }: SessionOptions,
  ): Promise<Session> {
    const ort = await loadOrt()
    const session = await ort.InferenceSession.create(encodeModel(graph), {
      executionProviders: [provider],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      // It would set one block aside for all that a run needs, besides what the first run has filled: twice the memory.
      enableMemPattern: false,
      // Fused only where the backward pass does not read the sum, it would make recomputed activations differ in the last bit.
      extra: { optimization: { disable_specified_optimizers: 'SkipLayerNormFusion' } },
      logSeverityLevel: quiet ? 4 : 3,
      ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
    })
    const untyped = (graph.untyped ?? []).map((name) => inferred(session, name))
    return new Session(ort, session, graph.inputs, [...graph.outputs, ...untyped])
  }

  bindInputs(buffers: Buffers): void {
    for (const [name, data] of buffers) this.feeds[name] = this.tensor(this.inputs, name, data)
  }

  bindOutputs(buffers: Buffers): void {
    for (const [name, data] of buffers) this.fetches[name] = this.tensor(this.outputs, name, data)
  }

  unbindInputs(names: readonly string[]): void {
    for (const name of names) delete this.feeds[name]
  }

  async run(): Promise<void> {
    await this.session.run(this.feeds, this.fetches)
  }

  /** Writes the profile, once; later runs are not in it. */
  endProfiling(): void {
    this.session.endProfiling()
  }

  async release(): Promise<void> {
    await this.session.release()
  }

  private tensor(values: readonly OnnxValue[], name: string, data: Numbers): Tensor {
    const { type, shape } = values.find((value) => value.name === name)!
    return new this.ort.Tensor(type as 'float32', data as Float32Array, shape)
  }
}

function inferred(session: InferenceSession, name: string): OnnxValue {
  const { type, shape } = session.outputMetadata.find((output) => output.name === name) as OnnxValue
  return { name, type, shape }
}
