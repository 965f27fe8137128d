/**
 * An onnxruntime session: a graph in, native runs out. It knows buffers and execution providers; it knows nothing of
 * TensorFlow.js.
 */
import { LockstepError } from '../errors.js'
import type { Bindable } from './graph.js'
import { loadNativeApi } from './native-api.js'
import { NativeSession } from './native-session.js'
import { NodeSession } from './node-session.js'
import type { OnnxGraph, OnnxValue } from './onnx.js'
import type { Backend, SessionOptions } from './session-backend.js'

export type { SessionOptions } from './session-backend.js'

/** Named buffers for a session's inputs or outputs; the session reads and writes them in place. */
export type Buffers = ReadonlyMap<string, Bindable>

/**
 * A compiled graph. `bind` ties names to buffers, which it reads and writes in place, until they are bound anew. A run blocks
 * the calling thread until it is done. Buffers may be views of an ArrayBuffer or of a non-shared WebAssembly.Memory.
 */
export class Session {
  private constructor(
    private readonly backend: Backend,
    private readonly inputs: readonly OnnxValue[],
    /** The untyped ones too, with what onnxruntime has inferred. */
    readonly outputs: readonly OnnxValue[],
  ) {}

  static async create(graph: OnnxGraph, options: SessionOptions): Promise<Session> {
    const native = (options.provider ?? 'cpu') === 'cpu' ? await loadNativeApi() : undefined
    if (!native && graph.inputs.some(({ type }) => type === 'bfloat16'))
      throw new LockstepError(
        'parameters in bfloat16 (precision with zero) need onnxruntime on the cpu, directly through koffi: use precision ' +
          'float16, or zero 0',
      )
    const backend = native
      ? NativeSession.create(native, graph, options)
      : await NodeSession.create(graph, options)
    const untyped = (graph.untyped ?? []).map((name) => backend.describe(name))
    return new Session(backend, graph.inputs, [...graph.outputs, ...untyped])
  }

  bindInputs(buffers: Buffers): void {
    for (const [name, data] of buffers) this.backend.bindInput(described(this.inputs, name), data)
  }

  bindOutputs(buffers: Buffers): void {
    for (const [name, data] of buffers) this.backend.bindOutput(described(this.outputs, name), data)
  }

  unbindInputs(names: readonly string[]): void {
    for (const name of names) this.backend.unbindInput(name)
  }

  run(): Promise<void> {
    return this.backend.run()
  }

  /** Writes the profile, once; later runs are not in it. */
  endProfiling(): void {
    this.backend.endProfiling()
  }

  async release(): Promise<void> {
    await this.backend.release()
  }
}

function described(values: readonly OnnxValue[], wanted: string): OnnxValue {
  return values.find(({ name }) => name === wanted)!
}
