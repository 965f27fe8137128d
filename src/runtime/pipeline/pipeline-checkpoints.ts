/**
 * Checkpoints of a model whose layers lie on several ranks: of the whole model, as every other checkpoint, so that any number
 * of ranks can go on from them, with a pipeline or without. Files and counters are ddp-checkpoint.ts' part.
 */
import type { Communicator } from '../../collectives/communicator.js'
import type { JsonObject } from '../checkpoint/checkpoints.js'
import type { NamedTensor } from '../checkpoint/safetensors.js'
import { DdpCheckpoints, type LoadOptions, type Progress, type SaveOptions } from '../ddp-checkpoint.js'
import type { Optimizer } from '../optimizers/index.js'
import { Parameters } from '../parameters.js'
import type { Plan } from './plan.js'

export class PipelineCheckpoints implements Pick<DdpCheckpoints, 'save' | 'saved' | 'load'> {
  /** The one whose save may still be under way. */
  private last: DdpCheckpoints | undefined

  constructor(
    private readonly links: Communicator,
    private readonly plan: Plan,
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
  ) {}

  async save(directory: string, progress: Progress, user: JsonObject, options: SaveOptions): Promise<string> {
    await this.saved()
    const { dp, pp } = this.plan.mesh
    const [whole, checkpoints] = this.open()
    if (dp.rank === 0) {
      for (const { target, own, owner } of this.tensors(whole)) {
        if (pp.rank === 0 && own) target.data.set(own.data)
        else if (pp.rank === 0) await pp.recv(target.data, owner)
        else if (own) await pp.send(own.data, 0)
      }
    }
    this.last = checkpoints
    return checkpoints.save(directory, progress, user, options)
  }

  async saved(): Promise<void> {
    await this.last?.saved()
    this.last = undefined
  }

  async load(directory: string, which: LoadOptions): ReturnType<DdpCheckpoints['load']> {
    await this.saved()
    const [whole, checkpoints] = this.open()
    const loaded = await checkpoints.load(directory, which)
    if (loaded === undefined) return undefined
    for (const { target, own } of this.tensors(whole)) own?.data.set(target.data)
    return loaded
  }

  /** Room for the whole model and its optimizer's state, and the checkpoints that are made of what it holds. */
  private open(): [Parameters, DdpCheckpoints] {
    const whole = new Parameters(this.plan.model.parameters, this.optimizer.slots)
    return [whole, new DdpCheckpoints(this.links, whole, this.optimizer, [])]
  }

  /** Every tensor of the whole model, this rank's if it has it, and the rank of the pipeline that has. */
  private tensors(whole: Parameters) {
    const { plan, parameters, optimizer } = this
    const { stages, model, mesh } = plan
    const owners = new Map(
      stages.flatMap((stage) =>
        stage.parameters.map((parameter) => [parameter, stage.number % mesh.pp.size]),
      ),
    )
    const own = new Map(allTensors(parameters).map((tensor) => [tensor.name, tensor]))
    const trainable = model.parameters.filter((parameter) => parameter.trainable)
    const described = [...model.parameters, ...optimizer.slots.flatMap(() => trainable)]
    return allTensors(whole).map((target, i) => ({
      target,
      own: own.get(target.name),
      owner: owners.get(described[i]!) ?? 0,
    }))
  }
}

function allTensors(parameters: Parameters): NamedTensor[] {
  return [...parameters.modelTensors(), ...parameters.optimizerTensors()]
}
