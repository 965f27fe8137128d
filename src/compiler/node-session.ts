/** A session through onnxruntime-node: on any provider, and on the cpu where its library cannot be had directly. */
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import type { Bindable } from './graph.js'
import { encodeModel, type OnnxGraph, type OnnxValue } from './onnx.js'
import { loadOrt, type Ort } from './onnxruntime.js'
import { type Backend, SETTINGS, type SessionOptions } from './session-backend.js'

export class NodeSession implements Backend {
  private readonly feeds: Record<string, Tensor> = {}
  private readonly fetches: Record<string, Tensor> = {}

  private constructor(
    private readonly ort: Ort,
    private readonly session: InferenceSession,
  ) {}

  static async create(
    graph: OnnxGraph,
    { threads, provider = 'cpu', profile, quiet = false }: SessionOptions,
  ): Promise<NodeSession> {
    const ort = await loadOrt()
    const session = await ort.InferenceSession.create(encodeModel(graph), {
      executionProviders: [provider],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      enableMemPattern: SETTINGS.memPattern,
      extra: { optimization: { disable_specified_optimizers: SETTINGS.disabledOptimizers } },
      logSeverityLevel: quiet ? 4 : 3,
      ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
    })
    return new NodeSession(ort, session)
  }

  describe(name: string): OnnxValue {
    const { type, shape } = this.session.outputMetadata.find((output) => output.name === name) as OnnxValue
    return { name, type, shape }
  }

  bindInput(value: OnnxValue, data: Bindable): void {
    this.feeds[value.name] = this.tensor(value, data)
  }

  unbindInput(name: string): void {
    delete this.feeds[name]
  }

  bindOutput(value: OnnxValue, data: Bindable): void {
    this.fetches[value.name] = this.tensor(value, data)
  }

  async run(): Promise<void> {
    await this.session.run(this.feeds, this.fetches)
  }

  endProfiling(): void {
    this.session.endProfiling()
  }

  async release(): Promise<void> {
    await this.session.release()
  }

  private tensor({ type, shape }: OnnxValue, data: Bindable): Tensor {
    return new this.ort.Tensor(type as 'float32', data as Float32Array, shape)
  }
}
