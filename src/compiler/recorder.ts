/**
 * The recording backend: a TensorFlow.js backend whose tensors have shapes but no data, and whose kernels write
 * down that they were called. It refuses to compute: whoever reads a tensor's data gets an error naming the op.
 */
import * as tf from '@tensorflow/tfjs-core'
import { LockstepError } from '../errors.js'
import {
  type DType,
  type KernelNode,
  type Numbers,
  numbersOf,
  type Spec,
  sameShape,
  type Value,
} from './graph.js'
import { kernelNames, opFor } from './ops/index.js'
import type { Op } from './ops/op.js'

const BACKEND = 'lockstep-recorder'

/** A model did something that cannot be recorded once and replayed every step. */
export class UntraceableError extends LockstepError {
  override name = 'UntraceableError'
}

/** One that must not run eagerly either: each rank would keep values of its own in a variable that nobody exchanges. */
export class ForeignVariableError extends UntraceableError {}

/** Everything one trace has seen. A fresh one per trace; the backend writes to the current one. */
export class Recording {
  readonly nodes: KernelNode[] = []
  readonly constants = new Map<Value, { readonly data: Numbers; readonly where: string }>()
  readonly randoms: { value: Value; layer: string }[] = []
  /** Variables that were assigned, and what they hold after the step: moving averages, for example. */
  readonly assigned = new Map<tf.Variable, Value>()
  /** The layers being called right now, outermost first: what an error names. */
  readonly layers: string[] = []
  /** TensorFlow.js' handle of a tensor's data (an empty object) -> what it stands for here. */
  private readonly values = new WeakMap<object, Value>()
  private nextId = 0

  value(spec: Spec): Value {
    return { id: this.nextId++, shape: [...spec.shape], dtype: spec.dtype }
  }

  /** Makes `dataId` stand for `value`: parameters, inputs and what kernels return. */
  bind(dataId: object, value: Value): void {
    this.values.set(dataId, value)
  }

  /** What a tensor stands for; a tensor made outside the trace becomes a constant. */
  lookUp(info: tf.TensorInfo): Value {
    const known = this.values.get(info.dataId)
    if (known !== undefined)
      return sameShape(known.shape, info.shape) ? known : this.reshaped(known, info.shape)
    if (info instanceof tf.Variable) {
      throw new ForeignVariableError(
        `the model reads variable ${info.name} ${this.where()}, which is not among its weights or params and would ` +
          'keep its present value for ever: list it',
      )
    }
    const data = tf.engine().readSync(info.dataId) as Numbers
    const value = this.constant(data, info.shape, info.dtype)
    this.bind(info.dataId, value)
    return value
  }

  constant(data: ArrayLike<number>, shape: readonly number[], dtype: string): Value {
    const value = this.value({ shape, dtype: this.traceable(dtype, 'a constant') })
    // TensorFlow.js accepts plain arrays and wider typed arrays as the values of a float32 tensor.
    const copy = numbersOf[value.dtype].from(data)
    this.constants.set(value, { data: copy, where: this.where() })
    return value
  }

  /** A tensor of numbers uniform in [0, 1), drawn anew at every run of the step. */
  random(shape: readonly number[], layer: string): tf.Tensor {
    const value = this.value({ shape, dtype: 'float32' })
    this.randoms.push({ value, layer })
    return this.tensor(value)
  }

  /** From here on `variable` stands for what `tensor` does. The variable itself is left alone. */
  assign(variable: tf.Variable, tensor: tf.Tensor): void {
    const value = this.lookUp(tensor)
    this.assigned.set(variable, value)
    this.bind(variable.dataId, value)
  }

  record(
    kernel: string,
    inputs: readonly (Value | undefined)[],
    attrs: unknown,
    specs: readonly Spec[],
  ): Value[] {
    const outputs = specs.map((spec) => this.value(spec))
    const layer = this.layers.at(-1)
    this.nodes.push({ kernel, inputs, attrs, outputs, ...(layer !== undefined && { layer }) })
    return outputs
  }

  /** A fresh handle for a value, in the form in which a kernel returns it. */
  tensorInfo(value: Value): tf.TensorInfo {
    const dataId = {}
    this.bind(dataId, value)
    return { dataId, shape: [...value.shape], dtype: value.dtype }
  }

  /** A tensor that TensorFlow.js code can go on computing with. */
  tensor(value: Value): tf.Tensor {
    const { dataId, shape, dtype } = this.tensorInfo(value)
    return tf.engine().makeTensorFromDataId(dataId, shape, dtype, recorder())
  }

  /** "in layer conv2d_Conv2D1", or nothing outside a layer. */
  where(): string {
    const layer = this.layers.at(-1)
    return layer === undefined ? 'in the model or loss function' : `in layer ${layer}`
  }

  private reshaped(value: Value, shape: readonly number[]): Value {
    return this.record('Reshape', [value], { shape }, [{ shape, dtype: value.dtype }])[0]!
  }

  private traceable(dtype: string, what: string): DType {
    if (dtype === 'float32' || dtype === 'int32' || dtype === 'bool') return dtype
    throw new UntraceableError(
      `${what} ${this.where()} is a ${dtype} tensor; a training step can hold float32, int32 and bool`,
    )
  }
}

let current: Recording | undefined

function recording(): Recording {
  if (current === undefined) throw new Error('the recording backend was used outside a trace')
  return current
}

class RecorderBackend extends tf.KernelBackend {
  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const dataId = {}
    recording().bind(dataId, recording().constant(values as Numbers, shape, dtype))
    return dataId
  }

  override readSync(): never {
    throw new UntraceableError(
      `the model reads a tensor's values ${recording().where()} (dataSync, data or array) while its training step is ` +
        'recorded, where tensors have no values; compute with TensorFlow.js ops instead (tf.where, tf.mul, …)',
    )
  }

  override read(): never {
    return this.readSync()
  }

  override incRef(): void {}
  override disposeData(): boolean {
    return true
  }
  override refCount(): number {
    return 1
  }
  override numDataIds(): number {
    return 0
  }
  override memory() {
    return { unreliable: true }
  }
  override timerAvailable(): boolean {
    return false
  }
  override floatPrecision(): 32 {
    return 32
  }
  override epsilon(): number {
    return 1e-7
  }
  override dispose(): void {}
}

function recorder(): tf.KernelBackend {
  return tf.findBackend(BACKEND) as tf.KernelBackend
}

/** Registers the backend and a recording kernel for every TensorFlow.js kernel there is; once per process. */
function registerRecorder(): void {
  if (tf.findBackendFactory(BACKEND) !== null) return
  tf.registerBackend(BACKEND, () => new RecorderBackend(), 0)
  for (const kernelName of kernelNames()) {
    tf.registerKernel({
      kernelName,
      backendName: BACKEND,
      kernelFunc: ({ inputs, attrs }) => recordKernel(kernelName, inputs, attrs),
    })
  }
}

function recordKernel(
  kernel: string,
  inputs: Record<string, unknown>,
  attrs: unknown,
): tf.TensorInfo | tf.TensorInfo[] {
  const now = recording()
  const op = opFor(kernel)
  if (op === undefined) {
    throw new UntraceableError(
      `TensorFlow.js op ${kernel} ${now.where()} is not covered by the compiler yet; express it with covered ops ` +
        '(docs/support.md lists them)',
    )
  }
  const given = (op.inputs === 'list' ? Object.values(inputs) : op.inputs.map((name) => inputs[name])) as (
    | tf.TensorInfo
    | undefined
  )[]
  const values = given.map((info) => (info ? now.lookUp(info) : undefined))
  const refusal = refusalOf(op, values as Value[], attrs)
  if (refusal !== undefined) {
    throw new UntraceableError(`TensorFlow.js op ${kernel} ${now.where()} ${refusal}`)
  }
  const alias = op.alias?.(values as Value[], attrs)
  if (alias !== undefined) return now.tensorInfo(alias)
  const specs = op.infer(values as Value[], attrs)
  const outputs = now.record(kernel, values, attrs, specs).map((value) => now.tensorInfo(value))
  return op.list ? outputs : outputs[0]!
}

function refusalOf(op: Op, values: readonly Value[], attrs: unknown): string | undefined {
  const { dtypes } = op
  const wrong = dtypes && values.find((value) => value && !dtypes.includes(value.dtype))
  if (wrong)
    return `was given a ${wrong.dtype} tensor, and the compiler has it for ${dtypes.join(' and ')}: use tf.cast`
  return op.refuse?.(values, attrs)
}

/**
 * Runs `body` on the recording backend and returns what it recorded.
 * Synchronous on purpose: TensorFlow.js has one global backend, so nothing else may run in between.
 */
export function withRecording<T>(body: (recording: Recording) => T): T {
  registerRecorder()
  // In a process that has not yet computed anything, this chooses the backend to return to.
  tf.backend()
  const previous = tf.getBackend()
  current = new Recording()
  // Registered with a synchronous factory, so setBackend has done its work when it returns.
  void tf.setBackend(BACKEND)
  const variable = tf.Variable.prototype
  const { assign } = variable
  variable.assign = function (this: tf.Variable, tensor: tf.Tensor) {
    recording().assign(this, tensor)
  }
  tf.engine().startScope()
  try {
    return body(current)
  } finally {
    forgetTape()
    tf.engine().endScope()
    variable.assign = assign
    void tf.setBackend(previous)
    current = undefined
  }
}

/** When a gradient fails half-way, TensorFlow.js keeps for ever what its tape had saved. */
function forgetTape(): void {
  const { state } = tf.engine()
  for (const { saved } of state.activeTape ?? []) tf.dispose(saved ?? [])
  state.activeTape = null as never
}
