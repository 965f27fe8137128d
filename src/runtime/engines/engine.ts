/**
 * What a training step needs of whoever computes it: passes from a batch to a loss, to gradients, to predictions. An
 * engine reads parameters from the flat buffers and writes gradients into them; it exchanges and updates nothing.
 */
import type { Output, Program, Update } from '../../compiler/program.js'
import type { Input } from '../batch.js'

/** What a pass without gradients gives back; the next pass of the same shape may overwrite its buffers. */
export interface Evaluation {
  readonly loss: number
  /** One for each output of the model, [batch, …]; none for a functional model without `predict`. */
  readonly predictions: readonly Output[]
}

/** Somebody who wants gradients before all of them are there. */
export interface GradientWatch {
  /**
   * Into which parts a pass should be cut, by the gradients that are wanted in each: their buffers may be used again by the next
   * part, as soon as `made` has settled. An engine that cannot does without, and tells nothing.
   */
  readonly segments: readonly (readonly number[])[]
  /** Gradients of the trainable parameters at these positions are in the buffer, and so is the loss. */
  made(positions: readonly number[]): void | Promise<void>
}

export interface Engine {
  readonly name: 'onnx' | 'tfjs'
  /** Milliseconds spent so far on preparing programs. */
  readonly compileMs: number
  /**
   * One forward and backward pass: writes `weight` × loss to the first stat and `weight` × gradients to the gradient
   * buffer. Random layers draw from `key`. @returns new values of moving averages and the like, by position.
   */
  train(
    x: readonly Input[],
    y: readonly Input[],
    weight: number,
    key: readonly number[],
    watch?: GradientWatch,
  ): Promise<readonly Update[]>
  /** Loss and predictions, random layers switched off. */
  evaluate(x: readonly Input[], y: readonly Input[]): Promise<Evaluation>
  /** Predictions alone, one for each output of the model. */
  predict(x: readonly Input[]): Promise<readonly Output[]>
  /** Puts weights with a constraint (maxNorm, unitNorm, …) back into what it allows: the same on every rank. */
  constrain(): Promise<void>
  /** Parameters that were here as a whole no longer are: their memory shall be free. */
  letGo(): Promise<void>
  release(): Promise<void>
}

/** Who is told of the programs that an engine compiles for batches. */
export interface ProgramWatch {
  /** Where the next training program's session shall write its profile; undefined: nowhere. */
  sessionFile(): string | undefined
  compiled(kind: 'training' | 'forward', shape: string, program: Program): void
}

export const NO_PREDICT =
  'predict() needs a predict function: pass { params, loss, predict: (x) => tf.Tensor }'
