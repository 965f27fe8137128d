/**
 * One stage's forward and backward passes over micro-batches of one size, several of them in flight. A stage that is not
 * the last has y = f(x) and the surrogate loss sum(y * dy), whose gradients are those of the model's loss when dy is.
 * Gradients add up in the stage's part of the gradient buffer. It sends nothing, and is called in any order.
 */
import * as tf from '@tensorflow/tfjs-core'
import type { Numbers, Spec } from '../../compiler/graph.js'
import type { Cutting } from '../../compiler/recompute-cuts.js'
import type { SessionOptions } from '../../compiler/session.js'
import { type Slot, StageProgram } from '../../compiler/stage-program.js'
import { LockstepError } from '../../errors.js'
import type { Input } from '../batch.js'
import type { Loss } from '../losses.js'
import { Pool } from './pool.js'
import { applyStage, boundaryShape, regularization, type Stage, totalLoss } from './stage.js'
import type { StageBuffers } from './stage-buffers.js'

/** A micro-batch on its way. */
interface Flight {
  readonly slot: Slot
  /** What the program is given from outside: inputs of the first stage, labels of the last, the weight. */
  readonly inputs: Numbers[]
  readonly params: readonly Numbers[]
}

export class StageTraining {
  private readonly slots: Pool<Slot>
  /** For this stage's input and its gradient, and for its output and its gradient; unused at the ends of the model. */
  readonly before: Pool<Float32Array>
  readonly after: Pool<Float32Array>
  private readonly flights = new Map<number, Flight>()
  private readonly term = new Float32Array(1)
  /** What the loss counts for, as a feed: always the same array, which is bound once. */
  private readonly weight: Float32Array

  private constructor(
    private readonly stage: Stage,
    private readonly buffers: StageBuffers,
    private readonly program: StageProgram,
    private readonly hasTerm: boolean,
    before: number,
    after: number,
    samples: number,
  ) {
    this.slots = new Pool(() => program.slot())
    this.before = new Pool(() => new Float32Array(before))
    this.after = new Pool(() => new Float32Array(after))
    this.weight = Float32Array.of(samples)
  }

  /**
   * @param x of the first stage, one micro-batch; its numbers are not read
   * @param y the labels, of the last stage
   * @param before shape of the previous stage's output
   * @param recompute to keep less of each micro-batch in flight
   */
  static async compile(
    stage: Stage,
    buffers: StageBuffers,
    losses: readonly Loss[],
    { x, y, before }: { x: readonly Input[]; y: readonly Input[]; before: readonly number[] | undefined },
    options: SessionOptions,
    recompute?: Cutting,
  ): Promise<StageTraining> {
    const samples = x[0]?.spec.shape[0] ?? before![0]!
    const boundary = before && tf.variable(tf.zeros([...before]))
    const own = boundary ? [boundary] : []
    const after = stage.isLast ? undefined : boundaryShape(stage, samples)
    const scalar: Spec = { shape: [], dtype: 'float32' }
    const features = stage.isFirst ? x.map(({ spec }) => spec) : []
    const others = after ? [{ shape: after, dtype: 'float32' } as const] : y.map(({ spec }) => spec)
    let hasTerm = stage.isLast
    const body = (given: tf.Tensor[]): tf.Tensor[] => {
      const inputs = boundary ? [boundary] : given.slice(0, features.length)
      const [rest, weight] = [given.slice(features.length, -1), given.at(-1)!]
      const outputs = applyStage(stage, inputs, true)
      const term = regularization(stage)
      if (after === undefined) {
        const loss = totalLoss(losses, rest, outputs)
        const weighted = tf.mul(term ? tf.add(loss, term) : loss, weight)
        return [weighted, weighted]
      }
      const [output] = outputs as [tf.Tensor]
      requireShape(stage, output.shape, after)
      const surrogate = tf.sum(tf.mul(output, rest[0]!))
      if (term === undefined) return [surrogate, output]
      hasTerm = true
      const weighted = tf.mul(term, weight)
      return [tf.add(surrogate, weighted), output, weighted]
    }
    try {
      const program = await StageProgram.compile(
        {
          trainable: [...own, ...buffers.trainable],
          frozen: buffers.frozen,
          layers: stage.layers,
          inputs: [...features, ...others, scalar],
          params: [...own.map(() => undefined), ...buffers.values],
          gradients: [...own.map(() => undefined), ...buffers.gradients],
          body,
          recompute,
        },
        options,
      )
      const sizes = [before, after].map((shape) => (shape ?? [0]).reduce((a, b) => a * b, 1))
      return new StageTraining(stage, buffers, program, hasTerm, sizes[0]!, sizes[1]!, samples)
    } finally {
      boundary?.dispose()
    }
  }

  /** Micro-batches that have been in flight at once. */
  get mostInFlight(): number {
    return this.slots.size
  }

  /** A new step begins: the next gradients are the first. */
  begin(): void {
    this.buffers.gradient.fill(0)
  }

  /**
   * @param given inputs of the first stage or, in one array, the previous stage's output; then labels in the last stage
   * @param output filled with this stage's output, unless it is the last
   * @returns what this stage adds to the loss, times the number of samples
   */
  async forward(
    microBatch: number,
    given: readonly Numbers[],
    output: Float32Array | undefined,
    key: readonly number[],
  ): Promise<number> {
    const { stage, hasTerm, term, weight } = this
    const [params, inputs] = stage.isFirst ? [[], given] : [given.slice(0, 1), given.slice(1)]
    const flight = { slot: this.slots.take(), params, inputs: [...inputs] }
    this.flights.set(microBatch, flight)
    const known = [...inputs, ...(output ? [undefined] : []), weight]
    const outputs = [...(output ? [output] : []), ...(hasTerm ? [term] : [])]
    await this.program.forward({ ...flight, inputs: known }, outputs, key)
    for (const { param, value } of this.program.updates) this.valueOf(param).set(value as Float32Array)
    return hasTerm ? term[0]! : 0
  }

  /**
   * @param outputGradient of this stage's output, unless it is the last
   * @param inputGradient filled with that of the previous stage's output, unless this is the first
   */
  async backward(
    microBatch: number,
    outputGradient: Float32Array | undefined,
    inputGradient: Float32Array | undefined,
  ): Promise<void> {
    const { slot, params, inputs } = this.flights.get(microBatch)!
    this.flights.delete(microBatch)
    const given = [...inputs, ...(outputGradient ? [outputGradient] : []), this.weight]
    await this.program.backward({ slot, params, inputs: given }, inputGradient ? [inputGradient] : [])
    this.slots.give(slot)
  }

  /** Values that the forward pass gives anew: moving averages. */
  updated(): Float32Array[] {
    return this.program.updates.map(({ param }) => this.valueOf(param))
  }

  async release(): Promise<void> {
    await this.program.release()
  }

  /** `param` counts the previous stage's output, if there is one, as the first. */
  private valueOf(param: number): Float32Array {
    return this.buffers.values[this.stage.isFirst ? param : param - 1]!
  }
}

function requireShape({ calls }: Stage, given: readonly number[], said: readonly number[]): void {
  if (given.join() === said.join()) return
  throw new LockstepError(
    `layer ${calls.at(-1)!.layer.name} returns [${given}] and says [${said}]: a pipeline relies on what a layer's ` +
      'computeOutputShape says; correct it, or cut the model elsewhere',
  )
}
