/**
 * A session on the cpu that computes into its buffers. onnxruntime-node copies every output to a new array besides, at each
 * run: 10 ms for 16 MiB, and as much again for the garbage collector.
 */
import { setImmediate } from 'node:timers/promises'
import type { Numbers } from './graph.js'
import type { Handle, NativeApi } from './native-api.js'
import { encodeModel, type OnnxGraph, type OnnxValue, onnxType } from './onnx.js'
import { type Backend, SETTINGS, type SessionOptions } from './session-backend.js'

/** C's numbers for: a warning, an error, a fatal one. */
const [WARNING, ERROR, FATAL] = [2, 3, 4] as const
/** Memory of an arena, of the default kind. */
const [ARENA, DEFAULT] = [1, 0] as const

/** Buffers by name, as onnxruntime takes them: names and values side by side. */
class Bound {
  /** By name: the buffers that were bound to it, the one that is last. */
  private readonly values = new Map<string, Map<Numbers, Handle>>()
  private readonly texts: ReadonlyMap<string, Buffer>
  /** Names in the order of `lists`; made anew when a name comes or goes. */
  private places = new Map<string, number>()
  private lists: { readonly names: BigUint64Array; readonly values: BigUint64Array } | undefined

  constructor(
    private readonly api: NativeApi,
    private readonly memory: Handle,
    names: readonly string[],
    private readonly remembered: number,
  ) {
    this.texts = new Map(names.map((name) => [name, Buffer.from(`${name}\0`)]))
  }

  set(value: OnnxValue, data: Numbers): void {
    const { name } = value
    let known = this.values.get(name)
    if (known === undefined) {
      known = new Map()
      this.values.set(name, known)
      this.lists = undefined
    }
    const handle = known.get(data) ?? this.make(value, data)
    known.delete(data)
    known.set(data, handle)
    if (this.lists) this.lists.values[this.places.get(name)!] = handle
    if (known.size > this.remembered) this.forget(known, known.keys().next().value!)
  }

  delete(name: string): void {
    const known = this.values.get(name)
    if (known === undefined) return
    for (const data of [...known.keys()]) this.forget(known, data)
    this.values.delete(name)
    this.lists = undefined
  }

  /** Addresses of names, and of what is bound to them. @throws Error naming an input that nothing is bound to */
  arguments(all: boolean): readonly [BigUint64Array, BigUint64Array] {
    if (this.lists) return [this.lists.names, this.lists.values]
    const { api, values, texts } = this
    for (const name of all ? texts.keys() : [])
      if (!values.has(name)) throw new Error(`input '${name}' has no buffer`)
    this.places = new Map([...values.keys()].map((name, i) => [name, i]))
    this.lists = {
      names: BigUint64Array.from(values.keys(), (name) => api.addressOf(texts.get(name)!)),
      values: BigUint64Array.from(values.values(), (known) => [...known.values()].at(-1)!),
    }
    return [this.lists.names, this.lists.values]
  }

  clear(): void {
    for (const name of [...this.values.keys()]) this.delete(name)
  }

  private make({ type, shape }: OnnxValue, data: Numbers): Handle {
    void data.buffer // a small array lies in the engine's heap, where it moves, until somebody asks for this
    const dims = BigInt64Array.from(shape, BigInt)
    const given = [data, data.byteLength, dims, dims.length, onnxType[type]]
    return this.api.make('CreateTensorWithDataAsOrtValue', this.memory, ...given)
  }

  private forget(known: Map<Numbers, Handle>, data: Numbers): void {
    this.api.release('Value', known.get(data)!)
    known.delete(data)
  }
}

export class NativeSession implements Backend {
  private readonly inputs: Bound
  private readonly outputs: Bound

  private constructor(
    private readonly api: NativeApi,
    private readonly session: Handle,
    private readonly memory: Handle,
    private readonly graph: OnnxGraph,
    remembered: number,
  ) {
    const outputs = [...names(graph.outputs), ...(graph.untyped ?? [])]
    this.inputs = new Bound(api, memory, names(graph.inputs), remembered)
    this.outputs = new Bound(api, memory, outputs, remembered)
  }

  /** @throws Error with onnxruntime's message, when it cannot build the graph */
  static create(
    api: NativeApi,
    graph: OnnxGraph,
    { threads, profile, quiet, remembered = 1 }: SessionOptions,
  ): NativeSession {
    const options = api.make('CreateSessionOptions')
    try {
      api.call('SetIntraOpNumThreads', options, threads)
      api.call('SetInterOpNumThreads', options, 1)
      if (!SETTINGS.memPattern) api.call('DisableMemPattern', options)
      const disabled = ['optimization.disable_specified_optimizers', SETTINGS.disabledOptimizers]
      api.call('AddSessionConfigEntry', options, ...disabled)
      api.call('SetSessionLogSeverityLevel', options, quiet ? FATAL : ERROR)
      if (profile !== undefined) api.call('EnableProfiling', options, profile)
      const model = encodeModel(graph)
      // There is one in a process, which onnxruntime-node has made and does not give away.
      const env = api.make('CreateEnv', WARNING, 'lockstep')
      const session = api.make('CreateSessionFromArray', env, model, model.length, options)
      const memory = api.make('CreateCpuMemoryInfo', ARENA, DEFAULT)
      return new NativeSession(api, session, memory, graph, remembered)
    } finally {
      api.release('SessionOptions', options)
    }
  }

  describe(name: string): OnnxValue {
    const { api, session, graph } = this
    const index = graph.outputs.length + graph.untyped!.indexOf(name)
    const info = api.make('SessionGetOutputTypeInfo', session, index)
    const tensor = api.make('CastTypeInfoToTensorInfo', info)
    const type = Number(BigInt.asUintN(32, api.make('GetTensorElementType', tensor)))
    const dims = new BigInt64Array(Number(api.make('GetDimensionsCount', tensor)))
    api.call('GetDimensions', tensor, dims, dims.length)
    api.release('TypeInfo', info)
    const types = Object.entries(onnxType) as [OnnxValue['type'], number][]
    return { name, type: types.find(([, number]) => number === type)![0], shape: Array.from(dims, Number) }
  }

  bindInput(value: OnnxValue, data: Numbers): void {
    this.inputs.set(value, data)
  }

  unbindInput(name: string): void {
    this.inputs.delete(name)
  }

  bindOutput(value: OnnxValue, data: Numbers): void {
    this.outputs.set(value, data)
  }

  async run(): Promise<void> {
    await setImmediate() // sockets and timers have their turn before the thread is taken
    const [inputNames, inputs] = this.inputs.arguments(true)
    const [outputNames, outputs] = this.outputs.arguments(false)
    const given = [null, inputNames, inputs, inputs.length, outputNames, outputs.length, outputs]
    this.api.call('Run', this.session, ...given)
  }

  endProfiling(): void {
    this.api.make('SessionEndProfiling', this.session, this.api.make('GetAllocatorWithDefaultOptions'))
  }

  async release(): Promise<void> {
    this.inputs.clear()
    this.outputs.clear()
    this.api.release('Session', this.session)
    this.api.release('MemoryInfo', this.memory)
  }
}

const names = (values: readonly OnnxValue[]) => values.map(({ name }) => name)
