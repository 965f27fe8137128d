/** One stage's forward pass with random layers off, for evaluation and prediction: one program per batch shape. */
import type * as tf from '@tensorflow/tfjs-core'
import type { Numbers, Spec } from '../../compiler/graph.js'
import { type Output, Program } from '../../compiler/program.js'
import type { SessionOptions } from '../../compiler/session.js'
import type { Input } from '../batch.js'
import type { Loss } from '../losses.js'
import { applyStage, boundaryShape, type Stage, totalLoss } from './stage.js'
import type { StageBuffers } from './stage-buffers.js'

export class StageInference {
  private readonly programs = new Map<string, Promise<Program>>()

  constructor(
    private readonly stage: Stage,
    private readonly buffers: StageBuffers,
    private readonly losses: readonly Loss[],
    private readonly options: SessionOptions,
  ) {}

  /**
   * @param x of the first stage; of others the previous stage's output
   * @param y labels, where a loss is wanted of the last stage
   * @returns the stage's outputs; with labels the loss before them
   */
  async run(x: readonly (Input | PreviousOutput)[], y: readonly Input[]): Promise<readonly Output[]> {
    const labels = this.stage.isLast ? y : []
    const specs = [...x, ...labels].map(({ spec }) => spec)
    const key = specs.map(({ shape, dtype }) => `${dtype}[${shape}]`).join()
    let program = this.programs.get(key)
    if (program === undefined) {
      program = this.compile(specs, x.length, labels.length > 0)
      program.catch(() => this.programs.delete(key))
      this.programs.set(key, program)
    }
    const compiled = await program
    await compiled.run([...x, ...labels].map(({ data }) => data) as Numbers[], [])
    return compiled.outputs
  }

  async release(): Promise<void> {
    for (const program of this.programs.values()) await (await program).release()
    this.programs.clear()
  }

  private async compile(inputs: readonly Spec[], features: number, wantsLoss: boolean): Promise<Program> {
    const { stage, buffers, losses } = this
    const body = (given: tf.Tensor[]) => {
      const outputs = applyStage(stage, given.slice(0, features), false)
      const whole = stage.isLast && stage.split ? stage.split.whole(outputs) : outputs
      return wantsLoss ? [totalLoss(losses, given.slice(features), outputs), ...whole] : whole
    }
    const request = {
      trainable: [],
      frozen: [...buffers.trainable, ...buffers.frozen],
      layers: stage.layers,
      inputs,
      params: buffers.values,
      gradients: [],
      body,
    }
    return Program.compile(request, this.options)
  }
}

export interface PreviousOutput {
  readonly spec: Spec
  readonly data: Float32Array
}

/** Room for what the stage before `stage` sends. */
export function previousOutput(previous: Stage, samples: number): PreviousOutput {
  const shape = boundaryShape(previous, samples)
  return {
    spec: { shape, dtype: 'float32' },
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
  }
}
