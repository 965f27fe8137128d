/**
 * Checkpoints of a model that is spread over a mesh, by stages, by slices and by shards of the optimizer's state: of whole
 * tensors, as every other checkpoint, so that any number of ranks can go on from them. Files and counters are
 * ddp-checkpoint.ts' part.
 */
import type { Communicator } from '../collectives/communicator.js'
import type { JsonObject } from './checkpoint/checkpoints.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import { DdpCheckpoints, type LoadOptions, type Progress, type SaveOptions } from './ddp-checkpoint.js'
import type { Mesh } from './mesh.js'
import type { Optimizer } from './optimizers/index.js'
import { Parameters } from './parameters.js'
import type { Placement } from './placement.js'
import { joined, sliceOf } from './tensor-parallel/slices.js'
import { roomForState, spreadState, type WholeState, wholeState } from './zero/whole-state.js'

/** A tensor of the whole model or of the optimizer's state of it. */
interface Tensor {
  readonly placement: Placement
  readonly whole: NamedTensor
  /** This rank's part of it, if it has any. */
  readonly own: NamedTensor | undefined
}

export class MeshCheckpoints implements Pick<DdpCheckpoints, 'save' | 'saved' | 'load'> {
  /** The one whose save may still be under way. */
  private last: DdpCheckpoints | undefined

  constructor(
    private readonly links: Communicator,
    private readonly mesh: Mesh,
    /** Of all parameters, in model order. */
    private readonly placements: readonly Placement[],
    /** This rank's. */
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
  ) {}

  async save(directory: string, progress: Progress, user: JsonObject, options: SaveOptions): Promise<string> {
    await this.saved()
    const { mesh, parameters } = this
    const [whole, checkpoints] = this.open()
    const state = await wholeState(mesh.dp, parameters)
    if (mesh.dp.rank === 0) for (const tensor of this.tensors(state, whole)) await this.bring(tensor)
    this.last = checkpoints
    return checkpoints.save(directory, progress, user, options)
  }

  async saved(): Promise<void> {
    await this.last?.saved()
    this.last = undefined
  }

  async load(directory: string, which: LoadOptions): ReturnType<DdpCheckpoints['load']> {
    await this.saved()
    const { mesh, parameters } = this
    const [whole, checkpoints] = this.open()
    const loaded = await checkpoints.load(directory, which)
    if (loaded === undefined) return undefined
    const state = roomForState(parameters)
    if (mesh.dp.rank === 0) {
      const { rank, size } = mesh.tp
      for (const { placement, whole: from, own } of this.tensors(state, whole)) {
        const { split } = placement
        own?.data.set(split ? sliceOf(from.data, from.shape, split, rank, size) : from.data)
      }
    }
    await spreadState(mesh.dp, parameters, state)
    return loaded
  }

  /** Fills rank 0's `whole`; those who have it take part, and leave parts of theirs. */
  private async bring({ placement: { owners, split }, whole, own }: Tensor): Promise<void> {
    const { pp, tp } = this.mesh
    const from = owners[0]!
    if (pp.rank === from) {
      const part = own!.data
      const { shape } = whole
      whole.data.set(split ? joined((await tp.allGather(part)) as Float32Array, shape, split, tp.size) : part)
    }
    if (from === 0 || tp.rank !== 0) return
    if (pp.rank === 0) await pp.recv(whole.data, from)
    if (pp.rank === from) await pp.send(whole.data, 0)
  }

  /** Room for the whole model and its optimizer's state, and the checkpoints that are made of what it holds. */
  private open(): [Parameters, DdpCheckpoints] {
    const parameters = this.placements.map(({ parameter }) => parameter)
    const whole = new Parameters(parameters, this.optimizer.slots)
    return [whole, new DdpCheckpoints(this.links, whole, this.optimizer, [])]
  }

  private tensors({ values, slots }: WholeState, whole: Parameters): Tensor[] {
    const { placements, parameters, optimizer } = this
    const held = [...parameters.modelTensors(values), ...parameters.optimizerTensors(slots)]
    const own = new Map(held.map((tensor) => [tensor.name, tensor]))
    const trainable = placements.filter(({ parameter }) => parameter.trainable)
    const placed = [...placements, ...optimizer.slots.flatMap(() => trainable)]
    return [...whole.modelTensors(), ...whole.optimizerTensors()].map((tensor, i) => ({
      placement: placed[i]!,
      whole: tensor,
      own: own.get(tensor.name),
    }))
  }
}
