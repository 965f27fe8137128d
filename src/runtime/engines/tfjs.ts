/**
 * The eager engine: every pass runs on the TensorFlow.js backend that is registered (tfjs-node-gpu, tfjs-node, wasm,
 * cpu). Parameters are copied into the model's variables before a pass and gradients out of it after; it compiles
 * nothing, so what cannot be recorded once and replayed runs here.
 */
import * as tf from '@tensorflow/tfjs-core'
import { gradientsOf } from '../../compiler/differentiate.js'
import { eagerGradientTable } from '../../compiler/gradients/index.js'
import { withLayers } from '../../compiler/layers/index.js'
import type { Output, Update } from '../../compiler/program.js'
import { ForeignVariableError } from '../../compiler/recorder.js'
import { fillUniform } from '../../compiler/uniform.js'
import { LockstepError } from '../../errors.js'
import type { Input } from '../batch.js'
import type { Model } from '../model.js'
import type { Parameters } from '../parameters.js'
import { type Engine, type Evaluation, type GradientWatch, NO_PREDICT } from './engine.js'

export class TfjsEngine implements Engine {
  readonly name = 'tfjs'
  readonly compileMs = 0
  /** In the order of the parameter views: trainable, then frozen. */
  private readonly variables: readonly tf.Variable[]
  private readonly trainable: readonly tf.Variable[]
  private readonly constrained: Model['parameters']

  constructor(
    private readonly model: Model,
    private readonly parameters: Parameters,
  ) {
    const trainable = model.parameters.filter((parameter) => parameter.trainable)
    const frozen = model.parameters.filter((parameter) => !parameter.trainable)
    this.variables = [...trainable, ...frozen].map(({ variable }) => variable)
    this.trainable = trainable.map(({ variable }) => variable)
    this.constrained = trainable.filter(({ constraint }) => constraint !== undefined)
  }

  async train(
    x: readonly Input[],
    y: readonly Input[],
    weight: number,
    key: readonly number[],
    watch?: GradientWatch,
  ): Promise<readonly Update[]> {
    const { model, parameters, trainable } = this
    const assigned = new Set<tf.Variable>()
    const [loss, ...gradients] = await this.run(key, () => {
      const [features, labels] = [tensors(x), tensors(y)]
      return noting(assigned, () => {
        const weighted = () => tf.mul(model.loss(features, labels, true), weight)
        const { value, grads } = gradientsOf(weighted, trainable, eagerGradientTable)
        return [value, ...trainable.map((variable) => grads[variable.name] ?? tf.zerosLike(variable))]
      })
    })
    parameters.stats[0] = loss!.data[0]!
    const views = parameters.gradientViews()
    const parts = typeof watch?.segments === 'object' ? watch.segments : [[...views.keys()]]
    for (const part of parts) {
      for (const i of part) views[i]!.set(gradients[i]!.data)
      if (typeof watch?.segments === 'object') await watch.made(part)
    }
    return this.updates(assigned)
  }

  async evaluate(x: readonly Input[], y: readonly Input[]): Promise<Evaluation> {
    const { model } = this
    const [loss, ...predictions] = await this.run([], () => {
      const features = tensors(x)
      return [model.loss(features, tensors(y), false), ...(model.predict?.(features) ?? [])]
    })
    return { loss: loss!.data[0]!, predictions }
  }

  async predict(x: readonly Input[]): Promise<readonly Output[]> {
    const { predict } = this.model
    if (predict === undefined) throw new LockstepError(NO_PREDICT)
    return this.run([], () => predict(tensors(x)))
  }

  async constrain(): Promise<void> {
    if (this.constrained.length === 0) return
    const values = await this.run([], () =>
      this.constrained.map(({ variable, constraint }) => constraint!(variable)),
    )
    const views = this.parameters.views()
    this.constrained.forEach(({ variable }, i) => {
      views[this.variables.indexOf(variable)]!.set(values[i]!.data)
    })
  }

  /** It holds nothing between passes. */
  async letGo(): Promise<void> {}

  async release(): Promise<void> {}

  /** The results of `body` on the present parameters, read. Synchronous but for the reading: nobody interferes. */
  private async run(key: readonly number[], body: () => tf.Tensor[]): Promise<Output[]> {
    this.loadVariables()
    const results = tf.tidy(() => {
      try {
        return withLayers(this.model.layers, layerHost(key), () => withSeededRandom(key, body))
      } catch (cause) {
        throw explained(cause as Error)
      }
    })
    const read = results.map(async (tensor) => ({ data: await tensor.data(), shape: tensor.shape }))
    const outputs = (await Promise.all(read)) as Output[]
    tf.dispose(results)
    return outputs
  }

  private loadVariables(): void {
    const views = this.parameters.views()
    this.variables.forEach((variable, i) => {
      // A copy: some backends keep the array that a tensor is made of.
      tf.tidy(() => variable.assign(tf.tensor(views[i]!.slice(), variable.shape)))
    })
  }

  private async updates(assigned: ReadonlySet<tf.Variable>): Promise<Update[]> {
    const foreign = [...assigned].find((v) => this.trainable.includes(v) || !this.variables.includes(v))
    if (foreign !== undefined) {
      throw new ForeignVariableError(
        `the model assigns variable ${foreign.name} during a training step, which ` +
          (this.trainable.includes(foreign)
            ? 'the optimizer updates'
            : 'is not among its weights or params') +
          ': assign only variables that are not trained, and list them',
      )
    }
    const params = [...assigned].map((v) => this.variables.indexOf(v)).sort((a, b) => a - b)
    const read = params.map(async (param) => ({ param, value: await this.variables[param]!.data() }))
    return (await Promise.all(read)) as Update[]
  }
}

const tensors = (inputs: readonly Input[]): tf.Tensor[] =>
  inputs.map(({ data, spec }) => tf.tensor(data, [...spec.shape], spec.dtype))

/** Random layers draw the numbers that a compiled step draws from the same key. */
function layerHost(key: readonly number[]) {
  let drawn = 0
  const random = (shape: readonly number[]): tf.Tensor => {
    const numbers = new Float32Array(tf.util.sizeFromShape([...shape]))
    fillUniform(numbers, [...key, drawn++])
    return tf.tensor(numbers, [...shape])
  }
  return { layers: [], random, eager: true }
}

/** Makes tf.randomNormal, tf.dropout and the like draw from `key`: TensorFlow.js seeds them with Math.random. */
function withSeededRandom<T>(key: readonly number[], body: () => T): T {
  const { random } = Math
  const number = new Float32Array(1)
  let drawn = 0
  Math.random = () => {
    fillUniform(number, [...key, -1, drawn++])
    return number[0]!
  }
  try {
    return body()
  } finally {
    Math.random = random
  }
}

/** Adds the variables that `body` assigns to `assigned`. */
function noting<T>(assigned: Set<tf.Variable>, body: () => T): T {
  const variable = tf.Variable.prototype
  const { assign } = variable
  variable.assign = function (this: tf.Variable, tensor: tf.Tensor) {
    assigned.add(this)
    assign.call(this, tensor)
  }
  try {
    return body()
  } finally {
    variable.assign = assign
  }
}

function explained(error: Error): Error {
  const [, kernel, backend] =
    /^Kernel '(\w+)' not registered for backend '([\w-]+)'/.exec(error.message) ?? []
  if (kernel === undefined) return error
  return new LockstepError(
    `TensorFlow.js backend ${backend} has no kernel ${kernel}, which this model needs: use --engine onnx, or a backend ` +
      'that has it (tfjs-node, cpu)',
    { cause: error },
  )
}
