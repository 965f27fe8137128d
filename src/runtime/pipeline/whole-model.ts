/** The parameters of all stages, one whole tensor at a time on every rank. It keeps nothing. */
import { createHash } from 'node:crypto'
import type { Communicator } from '../../collectives/communicator.js'
import type { Mesh } from '../mesh.js'
import type { Parameter } from '../model.js'
import { littleEndian, type Parameters } from '../parameters.js'
import type { Placement } from '../placement.js'
import { joined, sliceOf } from '../tensor-parallel/slices.js'

export class WholeModel {
  /** This rank's part of each parameter that it has a part of. */
  private readonly held: ReadonlyMap<string, Float32Array>

  constructor(
    private readonly mesh: Mesh,
    private readonly placements: readonly Placement[],
    parameters: Parameters,
  ) {
    this.held = new Map(parameters.modelTensors().map(({ name, data }) => [name, data]))
  }

  /** Gives every stage, on all ranks, the values of rank 0's model. */
  async takeFromRankZero(world: Communicator): Promise<void> {
    const { rank, size } = this.mesh.tp
    for (const { parameter, split } of this.placements) {
      const { name, variable } = parameter
      const data = Float32Array.from(variable.dataSync())
      if (world.size > 1) await world.broadcast(data, 0)
      this.held.get(name)?.set(split ? sliceOf(data, variable.shape, split, rank, size) : data)
    }
  }

  /** Every parameter in model order; `data` may change after `use` has returned. All ranks must call it together. */
  async each(use: (parameter: Parameter, data: Float32Array) => void): Promise<void> {
    const { pp, tp } = this.mesh
    for (const { parameter, owners, split } of this.placements) {
      const { name, variable } = parameter
      const part = this.held.get(name) ?? new Float32Array(variable.size / (split ? tp.size : 1))
      if (pp.size > 1) await pp.broadcast(part, owners[0])
      if (split === undefined) use(parameter, part)
      else use(parameter, joined((await tp.allGather(part)) as Float32Array, variable.shape, split, tp.size))
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
