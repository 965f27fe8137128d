/** An exported ONNX model, ready to predict: any file that onnxruntime runs, Lockstep's own among them. */
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { loadOrt, type Ort } from '../compiler/onnxruntime.js'
import type { NdArray } from '../data/dataset.js'
import { LockstepError } from '../errors.js'
import { type BatchInputs, type Input, readInputs } from './batch.js'

/** An input or output of the model; a size that is not fixed is called by its name, such as N. */
export interface PredictorValue {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly (number | string)[]
}

export class Predictor {
  private constructor(
    private readonly ort: Ort,
    private readonly session: InferenceSession,
    /** Where it was read from. */
    readonly path: string,
  ) {}

  /** Use `loadModel()`. */
  static async read(path: string, bytes: Uint8Array, threads: number): Promise<Predictor> {
    const ort = await loadOrt()
    const options = { intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 3 } as const
    try {
      return new Predictor(ort, await ort.InferenceSession.create(bytes, options), path)
    } catch (cause) {
      throw new LockstepError(
        `${path} does not load (${firstLine(cause)}): expected an ONNX model, as exportOnnx() writes it`,
        { cause },
      )
    }
  }

  get inputs(): PredictorValue[] {
    return this.session.inputMetadata.map(describe)
  }

  get outputs(): PredictorValue[] {
    return this.session.outputMetadata.map(describe)
  }

  /** The model's only output for `x`, as `ddp.predict` gives it. @throws LockstepError naming the input that does not fit. */
  async predict(x: BatchInputs): Promise<NdArray> {
    const names = this.session.outputNames
    if (names.length > 1)
      throw new LockstepError(
        `${this.path} has outputs ${names.join(', ')}: call predictAll() for all of them`,
      )
    return (await this.predictAll(x))[0]!
  }

  /** The same for a model of several outputs: one array for each, in the order of `outputs`. */
  async predictAll(x: BatchInputs): Promise<NdArray[]> {
    const { inputs } = this
    const given = readInputs('x', x, inputs.length)
    const feeds = Object.fromEntries(inputs.map((input, i) => [input.name, this.tensor(input, given[i]!)]))
    const results = await this.run(feeds)
    return this.session.outputNames.map((name) => {
      const { data, dims } = results[name]!
      return { data: data as Float32Array, shape: dims }
    })
  }

  async release(): Promise<void> {
    await this.session.release()
  }

  private async run(feeds: Record<string, Tensor>): Promise<InferenceSession.OnnxValueMapType> {
    try {
      return await this.session.run(feeds)
    } catch (cause) {
      throw new LockstepError(`${this.path} does not run on this batch: ${firstLine(cause)}`, { cause })
    }
  }

  private tensor(input: PredictorValue, { name, spec, data }: Input): Tensor {
    const { dtype, shape } = input
    const fits =
      shape.length === spec.shape.length &&
      shape.every((n, i) => typeof n === 'string' || n === spec.shape[i])
    if (!fits) {
      throw new LockstepError(
        `${name} has shape [${spec.shape.join(', ')}]: input ${input.name} of ${this.path} is [${shape.join(', ')}]`,
      )
    }
    if (dtype !== spec.dtype && !(dtype === 'float32' && spec.dtype === 'int32'))
      throw new LockstepError(
        `${name} holds ${spec.dtype}: input ${input.name} of ${this.path} takes ${dtype}`,
      )
    const numbers = dtype === 'float32' ? Float32Array.from(data) : data
    return new this.ort.Tensor(dtype as 'float32', numbers as Float32Array, spec.shape)
  }
}

function describe(value: InferenceSession.ValueMetadata): PredictorValue {
  return value.isTensor
    ? { name: value.name, dtype: value.type, shape: value.shape }
    : { name: value.name, dtype: 'no tensor', shape: [] }
}

const firstLine = (cause: unknown): string => (cause as Error).message.split('\n')[0]!
