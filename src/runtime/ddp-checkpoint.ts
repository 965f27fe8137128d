/** What of a training run goes into a checkpoint and comes back, on all ranks together. Files are ./checkpoint's part. */
import type { Communicator } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'
import { BackgroundWriter } from './checkpoint/background-writer.js'
import { type JsonObject, readCheckpoint, writeCheckpoint } from './checkpoint/checkpoints.js'
import { onRankZero } from './checkpoint/collective.js'
import { requireSameTensors } from './checkpoint/compare.js'
import { storageAt } from './checkpoint/locations.js'
import { checkRetention, type Metric } from './checkpoint/retention.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import { fits, gatherFeedback, isFeedback, scatterFeedback } from './feedback-state.js'
import type { Optimizer } from './optimizers/index.js'
import type { Parameters } from './parameters.js'
import { roomForState, spreadState, wholeState } from './zero/whole-state.js'

export interface SaveOptions {
  /**
   * Go on training while rank 0 writes, from a copy in memory that it makes before `save` returns. The next `save`,
   * `load` or `close` waits for it, as `saved()` does, and has its error if there is one.
   */
  readonly background?: boolean
  /** Delete older checkpoints once this one is written: all but so many, and the best by `metric`. */
  readonly keepLast?: number
  /** How good the model is now, e.g. `{ name: 'accuracy', value: accuracy, mode: 'max' }`. */
  readonly metric?: Metric
}

export interface LoadOptions {
  /** The checkpoint of this step, not the newest. */
  readonly step?: number
  /** The best by the metric of this name, not the newest. */
  readonly best?: string
}

/** Counters that a resumed run continues from; with the seed they are the state of all randomness. */
export interface Progress {
  readonly steps: number
  readonly passes: number
  readonly seed: number
}

export class DdpCheckpoints {
  private readonly writer = new BackgroundWriter()
  /** The save in the background, whose outcome rank 0 alone knows; undefined when every rank has seen it. */
  private writing: Promise<string> | undefined

  constructor(
    private readonly links: Communicator,
    private readonly parameters: Parameters,
    private readonly optimizer: Optimizer,
    /** What this rank's compressors remember; none without them. */
    private readonly feedback: readonly NamedTensor[],
  ) {}

  /** @throws LockstepError on every rank, naming path and cause, when rank 0 cannot write. @returns the path. */
  async save(
    directory: string,
    progress: Progress,
    user: JsonObject,
    { background = false, keepLast, metric }: SaveOptions,
  ): Promise<string> {
    checkRetention(keepLast, metric)
    const path = storageAt(directory).pathOf(progress.steps)
    await this.saved()
    const { parameters, optimizer, links } = this
    const { values, slots } = await wholeState(links, parameters)
    const feedback = await gatherFeedback(links, this.feedback)
    const checkpoint = () => ({
      step: progress.steps,
      model: parameters.modelTensors(values),
      optimizer: [...parameters.optimizerTensors(slots), ...feedback],
      state: { ...progress, optimizer: { name: optimizer.name, ...optimizer.hyper }, user },
      metric,
    })
    if (!background) return onRankZero(links, () => writeCheckpoint(directory, checkpoint(), keepLast))
    this.writing =
      links.rank === 0 ? this.writer.write(directory, checkpoint(), keepLast) : Promise.resolve(path)
    this.writing.catch(() => {}) // saved() tells it, to every rank
    return path
  }

  /** Settles on every rank when what was saved in the background is written; its error is every rank's. */
  async saved(): Promise<void> {
    const { writing } = this
    if (writing === undefined) return
    this.writing = undefined
    try {
      await onRankZero(this.links, () => writing)
    } finally {
      await writing.catch(() => {}) // also when the links are broken: a rank that leaves now would leave half a file
    }
  }

  /**
   * Rank 0 reads and checks; the buffers, or parts of them, then travel to the other ranks, which need not see the file system.
   * @returns undefined when there is no checkpoint. @throws LockstepError on every rank.
   */
  async load(
    directory: string,
    which: LoadOptions,
  ): Promise<{ readonly progress: Progress; readonly state: JsonObject } | undefined> {
    await this.saved()
    const { parameters, optimizer, links } = this
    const { values, slots } = roomForState(parameters)
    let feedback: readonly NamedTensor[] = []
    const loaded = await onRankZero(links, async () => {
      const checkpoint = await readCheckpoint(directory, which)
      if (checkpoint === undefined) return null
      const { path, damaged, state, model, optimizer: saved } = checkpoint
      const [ownModel, ownState] = [parameters.modelTensors(values), parameters.optimizerTensors(slots)]
      requireSameTensors('model', ownModel, model, path)
      requireSameOptimizer(optimizer, state, path)
      const savedSlots = saved.filter((tensor) => !isFeedback(tensor))
      requireSameTensors(`optimizer (${optimizer.name})`, ownState, savedSlots, path)
      for (const what of damaged) console.error(`lockstep: ${what}: resuming from ${path}`)
      copyInto(ownModel, model)
      copyInto(ownState, savedSlots)
      feedback = saved.filter(isFeedback)
      const resumed = fits(links.size, this.feedback, feedback)
      if (!resumed) {
        console.error(
          `lockstep: ${path} has no error feedback of ${links.size} ranks with this compression: it starts anew`,
        )
      }
      return { state, resumed }
    })
    if (loaded === null) return undefined
    await spreadState(links, parameters, { values, slots })
    if (loaded.resumed) await scatterFeedback(links, this.feedback, feedback)
    const { user, ...progress } = loaded.state as unknown as Progress & { user: JsonObject }
    return { progress, state: user }
  }
}

function requireSameOptimizer(optimizer: Optimizer, state: JsonObject, path: string): void {
  const saved = (state.optimizer as JsonObject | undefined)?.name
  if (saved === optimizer.name) return
  throw new LockstepError(
    `${path} was written with optimizer ${saved}, this run uses ${optimizer.name}: resume with ${saved}, or start anew ` +
      'in another directory',
  )
}

function copyInto(targets: readonly NamedTensor[], sources: readonly NamedTensor[]): void {
  const byName = new Map(sources.map(({ name, data }) => [name, data]))
  for (const { name, data } of targets) data.set(byName.get(name)!)
}
