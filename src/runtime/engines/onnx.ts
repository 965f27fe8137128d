/**
 * The compiled engine: one onnxruntime program per batch shape for training, one for evaluation. Each is traced and built
 * when its shape is first seen, and then kept.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Provider } from '../../compiler/onnxruntime.js'
import { autocastOn, type Precision } from '../../compiler/precision.js'
import { type Output, Program, type ProgramRequest, type Update } from '../../compiler/program.js'
import { resolveProvider } from '../../compiler/providers.js'
import type { Recompute } from '../../compiler/recompute-cuts.js'
import type { Streaming } from '../../compiler/streaming.js'
import { LockstepError } from '../../errors.js'
import type { Input } from '../batch.js'
import type { Model } from '../model.js'
import type { Parameters } from '../parameters.js'
import { type Engine, type Evaluation, type GradientWatch, NO_PREDICT, type ProgramWatch } from './engine.js'
import { Constraints } from './onnx-constraints.js'

export class OnnxEngine implements Engine {
  readonly name = 'onnx'
  private readonly training = new Map<string, Promise<Program>>()
  private readonly forward = new Map<string, Promise<Program>>()
  private readonly trainable: tf.Variable[]
  private readonly frozen: tf.Variable[]
  private readonly constraints: Constraints
  compileMs = 0
  private hasWarned = false

  constructor(
    private readonly model: Model,
    private readonly parameters: Parameters,
    private readonly threads: number,
    private readonly provider: Provider | 'auto' = 'auto',
    private readonly watch?: ProgramWatch,
    /** Where the trainable parameters are here for a while only. */
    private readonly streaming?: Streaming,
    private readonly precisely?: { readonly precision: Precision; warn(line: string): void },
    private readonly recompute?: Recompute,
  ) {
    const variables = (trainable: boolean) =>
      model.parameters.filter((p) => p.trainable === trainable).map((p) => p.variable)
    this.trainable = variables(true)
    this.frozen = variables(false)
    this.constraints = new Constraints(model, parameters, (request) => this.compile(request))
  }

  async train(
    x: readonly Input[],
    y: readonly Input[],
    weight: number,
    key: readonly number[],
    watch?: GradientWatch,
  ): Promise<readonly Update[]> {
    const segments = watch?.segments
    const program = await remember(this.training, `${JSON.stringify(segments ?? [])} ${shapeKey(x, y)}`, () =>
      this.compileTraining(x, y, segments),
    )
    await program.run([...dataOf(x, y), Float32Array.of(weight)], key, watch?.made)
    return program.updates.toSorted((a, b) => a.param - b.param)
  }

  async evaluate(x: readonly Input[], y: readonly Input[]): Promise<Evaluation> {
    const views = this.parameters.isSpread ? this.parameters.views() : undefined
    const program = await remember(this.forward, shapeKey(x, y), () => this.compileEvaluation(x, y))
    if (views) program.bindParams(views)
    await program.run(dataOf(x, y), [])
    const [loss, ...predictions] = program.outputs
    return { loss: loss!.data[0]!, predictions }
  }

  async predict(x: readonly Input[]): Promise<readonly Output[]> {
    const views = this.parameters.isSpread ? this.parameters.views() : undefined
    const program = await remember(this.forward, shapeKey(x), () => this.compilePrediction(x))
    if (views) program.bindParams(views)
    await program.run(dataOf(x), [])
    return program.outputs
  }

  constrain(): Promise<void> {
    return this.constraints.apply()
  }

  async letGo(): Promise<void> {
    for (const program of this.forward.values()) (await program).bindParams(undefined)
  }

  async release(): Promise<void> {
    await this.constraints.release()
    for (const program of [...this.training.values(), ...this.forward.values()])
      await (await program).release()
    this.training.clear()
    this.forward.clear()
  }

  private async compileTraining(
    x: readonly Input[],
    y: readonly Input[],
    segments: GradientWatch['segments'] | undefined,
  ): Promise<Program> {
    const { model, parameters, streaming } = this
    const request = {
      ...this.request(x, y),
      params: parameters.passViews(),
      streaming,
      trainable: this.trainable,
      frozen: this.frozen,
      inputs: [...x, ...y].map(({ spec }) => spec).concat({ shape: [], dtype: 'float32' }),
      body: (inputs: tf.Tensor[]) => {
        const weight = inputs.at(-1)!
        const loss = model.loss(inputs.slice(0, x.length), inputs.slice(x.length, -1), true)
        return [tf.mul(loss, weight)]
      },
      outputs: [parameters.stats.subarray(0, 1)],
      gradients: parameters.passGradientViews(),
      ...(segments && { segments }),
      recompute: this.recompute,
    } satisfies ProgramRequest
    const program = await this.compile(request, this.watch?.sessionFile())
    this.watch?.compiled('training', shapeKey(x, y), program)
    return program
  }

  private compileEvaluation(x: readonly Input[], y: readonly Input[]): Promise<Program> {
    const { model } = this
    return this.compileForward(shapeKey(x, y), {
      ...this.request(x, y),
      body: (inputs) => {
        const [features, labels] = [inputs.slice(0, x.length), inputs.slice(x.length)]
        return [model.loss(features, labels, false), ...(model.predict?.(features) ?? [])]
      },
    })
  }

  private async compilePrediction(x: readonly Input[]): Promise<Program> {
    const { predict } = this.model
    if (predict === undefined) throw new LockstepError(NO_PREDICT)
    return this.compileForward(shapeKey(x), { ...this.request(x), body: predict })
  }

  private async compileForward(shape: string, request: ProgramRequest): Promise<Program> {
    const program = await this.compile(request)
    this.watch?.compiled('forward', shape, program)
    return program
  }

  private async compile(request: ProgramRequest, profile?: string): Promise<Program> {
    const provider = await resolveProvider(this.provider)
    const autocast = await autocastOn(provider, this.precisely?.precision ?? 'float32')
    if (autocast?.native === false && !this.hasWarned)
      this.precisely!.warn(
        `precision ${autocast.type}: onnxruntime's cpu provider computes in float32; operands and results are rounded to ` +
          `${autocast.type}, which shows how a model trains in it, and takes longer than float32 (docs/precision.md)`,
      )
    this.hasWarned = true
    const options = { threads: this.threads, provider, profile }
    const program = await Program.compile({ ...request, autocast }, options)
    this.compileMs += program.compileMs
    return program
  }

  /** What all programs have in common; a pass without gradients reads all variables as frozen ones. */
  private request(...inputs: (readonly Input[])[]) {
    return {
      trainable: [],
      frozen: [...this.trainable, ...this.frozen],
      layers: this.model.layers,
      inputs: inputs.flat().map(({ spec }) => spec),
      params: this.parameters.isWhole ? this.parameters.views() : [],
      gradients: [],
    }
  }
}

const shapeKey = (...inputs: (readonly Input[])[]): string =>
  inputs
    .flat()
    .map(({ name, spec }) => `${name} ${spec.dtype}[${spec.shape}]`)
    .join(' ')

const dataOf = (...inputs: (readonly Input[])[]) => inputs.flat().map(({ data }) => data)

function remember<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const found = known.get(key)
  if (found !== undefined) return found
  const made = make()
  known.set(key, made)
  // A model that cannot be compiled must fail anew, not with a remembered error.
  made.catch(() => known.delete(key))
  return made
}
