/**
 * Checkpoints of a model that is split over ranks: of whole tensors, as every other checkpoint, so that any number of ranks
 * can go on from them. Files and counters are ddp-checkpoint.ts' part.
 */
import type { Communicator } from '../../collectives/communicator.js'
import type { JsonObject } from '../checkpoint/checkpoints.js'
import type { NamedTensor } from '../checkpoint/safetensors.js'
import { DdpCheckpoints, type LoadOptions, type Progress, type SaveOptions } from '../ddp-checkpoint.js'
import type { Mesh } from '../mesh.js'
import type { Model } from '../model.js'
import type { Optimizer } from '../optimizers/index.js'
import { Parameters } from '../parameters.js'
import { roomForState, spreadState, type WholeState, wholeState } from '../zero/whole-state.js'
import { joined, type Split, sliceOf } from './slices.js'

export class SplitCheckpoints implements Pick<DdpCheckpoints, 'save' | 'saved' | 'load'> {
  /** The one whose save may still be under way. */
  private last: DdpCheckpoints | undefined

  constructor(
    private readonly links: Communicator,
    private readonly mesh: Mesh,
    private readonly whole: Model,
    /** How each of its parameters is split; undefined: every rank holds it whole. */
    private readonly splits: readonly (Split | undefined)[],
    private readonly parts: Parameters,
    private readonly optimizer: Optimizer,
  ) {}

  async save(directory: string, progress: Progress, user: JsonObject, options: SaveOptions): Promise<string> {
    await this.saved()
    const { mesh, parts } = this
    const [whole, checkpoints] = this.open()
    const state = await wholeState(mesh.dp, parts)
    if (mesh.dp.rank === 0) {
      for (const [part, target, split] of this.tensors(state, whole)) {
        if (split === undefined) target.data.set(part.data)
        else {
          const slices = (await mesh.tp.allGather(part.data)) as Float32Array
          target.data.set(joined(slices, target.shape, split, mesh.tp.size))
        }
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
    const { mesh, parts } = this
    const [whole, checkpoints] = this.open()
    const loaded = await checkpoints.load(directory, which)
    if (loaded === undefined) return undefined
    const state = roomForState(parts)
    if (mesh.dp.rank === 0) {
      const { rank, size } = mesh.tp
      for (const [part, { data, shape }, split] of this.tensors(state, whole))
        part.data.set(split ? sliceOf(data, shape, split, rank, size) : data)
    }
    await spreadState(mesh.dp, parts, state)
    return loaded
  }

  /** Room for whole parameters and state, and the checkpoints that are made of what it holds. */
  private open(): [Parameters, DdpCheckpoints] {
    const whole = new Parameters(this.whole.parameters, this.optimizer.slots)
    return [whole, new DdpCheckpoints(this.links, whole, this.optimizer, [])]
  }

  /** This rank's part of every tensor, the whole one, and how it is split. */
  private tensors(state: WholeState, whole: Parameters): [NamedTensor, NamedTensor, Split | undefined][] {
    const { parts, splits, optimizer } = this
    const trainable = splits.filter((_, i) => this.whole.parameters[i]!.trainable)
    const all = [...splits, ...optimizer.slots.flatMap(() => trainable)]
    const targets = [...whole.modelTensors(), ...whole.optimizerTensors()]
    const own = [...parts.modelTensors(state.values), ...parts.optimizerTensors(state.slots)]
    return own.map((part, i) => [part, targets[i]!, all[i]])
  }
}
