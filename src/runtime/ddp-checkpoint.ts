/** What of a training run goes into a checkpoint and comes back, on all ranks together. Files are ./checkpoint's part. */
import type { Communicator } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'
import { BackgroundWriter } from './checkpoint/background-writer.js'
import {
  type FoundSharded,
  findCheckpoint,
  type JsonObject,
  type Particulars,
} from './checkpoint/checkpoints.js'
import { onAllRanks, onRankZero } from './checkpoint/collective.js'
import { requireSameTensors } from './checkpoint/compare.js'
import { storageAt } from './checkpoint/locations.js'
import {
  collect,
  type Described,
  distribute,
  type HeldState,
  shareOf,
  type WholeTensors,
} from './checkpoint/parts.js'
import { checkRetention, type Metric } from './checkpoint/retention.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import { beginShards, readShards } from './checkpoint/shared-shards.js'
import { perform, type WriteTask } from './checkpoint/writing.js'
import { feedbackParts, feedbackTensors, isFeedback, unfitFeedback } from './feedback-state.js'
import type { Optimizer } from './optimizers/index.js'
import type { LossScaleState } from './precision/loss-scale.js'

export interface SaveOptions {
  /**
   * Go on training while the checkpoint is written, from a copy in memory that is made before `save` returns. The next
   * `save`, `load` or `close` waits for it, as `saved()` does, and has its error if there is one.
   */
  readonly background?: boolean
  /**
   * Every rank writes what it holds, so that none needs room for the whole; all ranks must see the directory. By default so
   * where ranks hold parts of the state (ZeRO, pipelines, tensor parallelism) and see it; else rank 0 writes whole tensors.
   */
  readonly sharded?: boolean
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
  /** With a loss scale only. */
  readonly lossScale?: LossScaleState
}

export class DdpCheckpoints {
  private readonly writer = new BackgroundWriter()
  /** The save in the background, whose outcome this rank alone knows; undefined when every rank has seen it. */
  private writing: { readonly done: Promise<string>; readonly aborting: AbortController } | undefined

  constructor(
    /** All ranks of the world. */
    private readonly links: Communicator,
    private readonly held: HeldState,
    private readonly optimizer: Optimizer,
    /** What this rank's compressors remember; none without them. */
    private readonly feedback: readonly NamedTensor[],
  ) {}

  /** @throws LockstepError on every rank, naming path and cause, when a rank cannot write. @returns the path. */
  async save(
    directory: string,
    progress: Progress,
    user: JsonObject,
    { background = false, keepLast, metric, sharded }: SaveOptions,
  ): Promise<string> {
    checkRetention(keepLast, metric)
    const path = storageAt(directory).pathOf(progress.steps)
    await this.saved()
    const { optimizer } = this
    const particulars: Particulars = {
      step: progress.steps,
      state: { ...progress, optimizer: { name: optimizer.name, ...optimizer.hyper }, user },
      metric,
    }
    const task = await this.task(directory, particulars, keepLast, sharded)
    const aborting = new AbortController()
    const done =
      task === undefined
        ? Promise.resolve(path)
        : background
          ? this.writer.write(task, aborting.signal)
          : perform(task, aborting.signal)
    done.catch(() => {}) // saved() tells it, to every rank
    this.writing = { done, aborting }
    if (!background) await this.saved()
    return path
  }

  /** Settles on every rank when what was saved in the background is written; its error is every rank's. */
  async saved(): Promise<void> {
    const { writing, links } = this
    if (writing === undefined) return
    this.writing = undefined
    const { done, aborting } = writing
    try {
      // Rank 0 waits for the others' shards, and must be told when one will not come.
      await onAllRanks(links, () => (links.rank === 0 ? Promise.resolve() : done))
      await onRankZero(links, () => done)
    } catch (error) {
      aborting.abort(error)
      throw error
    } finally {
      await done.catch(() => {}) // also when the links are broken: a rank that leaves now would leave half a file
    }
  }

  /**
   * Of whole tensors, rank 0 reads and checks, and the others get their parts from it, and need not see the file system. Of
   * shards every rank checks some, and reads what it needs.
   * @returns undefined when there is no checkpoint. @throws LockstepError on every rank.
   */
  async load(
    directory: string,
    which: LoadOptions,
  ): Promise<{ readonly progress: Progress; readonly state: JsonObject } | undefined> {
    await this.saved()
    const known = new Map<string, string>()
    for (;;) {
      let whole: WholeTensors | undefined
      const found = await onRankZero(this.links, async () => {
        const checkpoint = await findCheckpoint(directory, which, known)
        if (checkpoint === undefined) return null
        if ('model' in checkpoint) whole = checkpoint
        const resumed = this.check(checkpoint.path, checkpoint.state, tensorsOf(checkpoint))
        for (const what of checkpoint.damaged)
          console.error(`lockstep: ${what}: resuming from ${checkpoint.path}`)
        const { path, state } = checkpoint
        const shards = 'index' in checkpoint ? { index: checkpoint.index, sums: [...checkpoint.sums] } : null
        return JSON.parse(JSON.stringify({ path, state, resumed, shards }))
      })
      if (found === null) return undefined
      const { path, state, resumed, shards } = found
      const parts = this.parts(resumed)
      if (shards === null) await distribute(this.links, parts, whole)
      else {
        const all = { ...shards, sums: new Map(shards.sums) }
        const damage = await readShards(this.links, directory, path, all, parts)
        if (damage !== undefined) {
          known.set(path, damage)
          continue
        }
      }
      const { user, ...progress } = state as Progress & { user: JsonObject }
      return { progress, state: user }
    }
  }

  /** This rank's part in writing; undefined: none. All ranks must call it together. */
  private async task(
    location: string,
    particulars: Particulars,
    keepLast: number | undefined,
    sharded: boolean | undefined,
  ): Promise<WriteTask | undefined> {
    const { links } = this
    const state = this.parts(true)
    const begun =
      (sharded ?? !this.held.isWhole)
        ? await beginShards(links, location, particulars.step, sharded)
        : undefined
    if (begun !== undefined) {
      const { rank, size } = links
      return { location, begun, rank, size, parts: shareOf(state.parts()), particulars, keepLast }
    }
    const whole = await collect(links, state)
    return whole && { location, checkpoint: { ...particulars, ...whole }, keepLast }
  }

  /** The state with what compressors remember, if that is to be saved, or can be given back. */
  private parts(withFeedback: boolean): HeldState {
    const { held, feedback, links } = this
    if (!withFeedback || feedback.length === 0) return held
    return {
      ...held,
      optimizer: [...held.optimizer, ...feedbackTensors(links.size, feedback)],
      parts: () => [...held.parts(), ...feedbackParts(links.rank, feedback)],
    }
  }

  /** @returns whether compressors go on where they were. @throws LockstepError: it is of another model or optimizer. */
  private check(path: string, state: JsonObject, { model, optimizer }: HeldTensors): boolean {
    const { held, feedback, links } = this
    requireSameTensors('model', held.model, model, path)
    requireSameOptimizer(this.optimizer, state, path)
    const slots = optimizer.filter((tensor) => !isFeedback(tensor))
    requireSameTensors(`optimizer (${this.optimizer.name})`, held.optimizer, slots, path)
    const unfit = unfitFeedback(optimizer.filter(isFeedback), links.size, feedback)
    if (unfit) console.error(`lockstep: ${path} ${unfit}`)
    return unfit === undefined
  }
}

type HeldTensors = Readonly<Record<'model' | 'optimizer', readonly Described[]>>

function tensorsOf(checkpoint: WholeTensors | Pick<FoundSharded, 'index'>): HeldTensors {
  if ('model' in checkpoint) return checkpoint
  const of = (kind: 'model' | 'optimizer') =>
    checkpoint.index.tensors.filter((tensor) => tensor.kind === kind)
  return { model: of('model'), optimizer: of('optimizer') }
}

function requireSameOptimizer(optimizer: Optimizer, state: JsonObject, path: string): void {
  const saved = (state.optimizer as JsonObject | undefined)?.name
  if (saved === optimizer.name) return
  throw new LockstepError(
    `${path} was written with optimizer ${saved}, this run uses ${optimizer.name}: resume with ${saved}, or start anew ` +
      'in another directory',
  )
}
