/** The parameters of all stages, one tensor at a time on every rank of a pipeline. It keeps nothing. */
import { createHash } from 'node:crypto'
import type { Communicator } from '../../collectives/communicator.js'
import type { Parameter } from '../model.js'
import { littleEndian, type Parameters } from '../parameters.js'
import type { Plan } from './plan.js'

export class WholeModel {
  /** Of each parameter in model order: the rank that has it, and its values there. */
  private readonly places: readonly {
    readonly parameter: Parameter
    readonly owner: number
    readonly own: Float32Array | undefined
  }[]

  constructor(
    private readonly pp: Communicator,
    { stages, model }: Plan,
    parameters: Parameters,
  ) {
    const held = new Map(parameters.modelTensors().map(({ name, data }) => [name, data]))
    this.places = model.parameters.map((parameter) => ({
      parameter,
      owner: (stages.find((stage) => stage.parameters.includes(parameter))?.number ?? 0) % pp.size,
      own: held.get(parameter.name),
    }))
  }

  /** Gives every stage, on all ranks, the values of rank 0's model. */
  async takeFromRankZero(world: Communicator): Promise<void> {
    if (world.size === 1) return
    for (const { parameter, own } of this.places) {
      const data = Float32Array.from(parameter.variable.dataSync())
      await world.broadcast(data, 0)
      own?.set(data)
    }
  }

  /** Every parameter in model order; `data` may change after `use` has returned. All ranks must call it together. */
  async each(use: (parameter: Parameter, data: Float32Array) => void): Promise<void> {
    for (const { parameter, owner, own } of this.places) {
      const data = own ?? new Float32Array(parameter.variable.size)
      if (this.pp.size > 1) await this.pp.broadcast(data, owner)
      use(parameter, data)
    }
  }

  async sha256(): Promise<string> {
    const hash = createHash('sha256')
    await this.each((_, data) => {
      hash.update(littleEndian(data))
    })
    return hash.digest('hex')
  }
}
