/**
 * Constraints on weights (maxNorm, unitNorm, nonNeg, minMaxNorm, or one's own), applied after every update as Keras does;
 * TensorFlow.js itself applies them nowhere in training. One compiled program for all constrained weights.
 */
import type { Program, ProgramRequest } from '../../compiler/program.js'
import type { Model } from '../model.js'
import type { Parameters } from '../parameters.js'

export class Constraints {
  private program: Promise<Program> | undefined
  private readonly constrained: Model['parameters']
  /** The constrained weights' values, in the same order. */
  private readonly values: readonly Float32Array[]

  constructor(
    model: Model,
    parameters: Parameters,
    private readonly compileProgram: (request: ProgramRequest) => Promise<Program>,
  ) {
    const trainable = model.parameters.filter((parameter) => parameter.trainable)
    const isConstrained = trainable.map(({ constraint }) => constraint !== undefined)
    this.constrained = trainable.filter((_, i) => isConstrained[i])
    const views = this.constrained.length > 0 ? parameters.views() : []
    this.values = trainable.flatMap((_, i) => (isConstrained[i] ? [views[i]!] : []))
  }

  /** Puts the weights back into what their constraints allow: the same on every rank, from the same weights. */
  async apply(): Promise<void> {
    if (this.constrained.length === 0) return
    this.program ??= this.compile()
    const program = await this.program
    await program.run([], [])
    program.outputs.forEach(({ data }, i) => {
      this.values[i]!.set(data)
    })
  }

  async release(): Promise<void> {
    await (await this.program)?.release()
    this.program = undefined
  }

  private compile(): Promise<Program> {
    const request = {
      trainable: [],
      frozen: this.constrained.map(({ variable }) => variable),
      layers: [],
      inputs: [],
      body: () => this.constrained.map(({ variable, constraint }) => constraint!(variable)),
      params: this.values,
      gradients: [],
    }
    return this.compileProgram(request)
  }
}
