/** What of a training run goes into a checkpoint and comes back, on all ranks together. Files are ./checkpoint's part. */
import type { Communicator } from '../collectives/communicator.js'
import { LockstepError } from '../errors.js'
import { type JsonObject, readLatestCheckpoint, writeCheckpoint } from './checkpoint/checkpoints.js'
import { onRankZero } from './checkpoint/collective.js'
import { requireSameTensors } from './checkpoint/compare.js'
import type { NamedTensor } from './checkpoint/safetensors.js'
import type { Optimizer } from './optimizers/index.js'
import type { Parameters } from './parameters.js'

/** Counters that a resumed run continues from; with the seed they are the state of all randomness. */
export interface Progress {
  readonly steps: number
  readonly passes: number
  readonly seed: number
}

/** @throws LockstepError on every rank, naming path and cause, when rank 0 cannot write. @returns the folder's path. */
export function saveCheckpoint(
  links: Communicator,
  directory: string,
  parameters: Parameters,
  optimizer: Optimizer,
  progress: Progress,
  state: JsonObject,
): Promise<string> {
  return onRankZero(links, () =>
    writeCheckpoint(directory, {
      step: progress.steps,
      model: parameters.modelTensors(),
      optimizer: parameters.optimizerTensors(),
      state: { ...progress, optimizer: { name: optimizer.name, ...optimizer.hyper }, user: state },
    }),
  )
}

/**
 * Rank 0 reads and checks; the buffers then travel to the other ranks, which need not see the file system.
 * @returns undefined when there is no checkpoint. @throws LockstepError on every rank.
 */
export async function loadCheckpoint(
  links: Communicator,
  directory: string,
  parameters: Parameters,
  optimizer: Optimizer,
): Promise<{ readonly progress: Progress; readonly state: JsonObject } | undefined> {
  const loaded = await onRankZero(links, async () => {
    const checkpoint = await readLatestCheckpoint(directory)
    if (checkpoint === undefined) return null
    const { path, state, model, optimizer: slots } = checkpoint
    requireSameTensors('model', parameters.modelTensors(), model, path)
    requireSameOptimizer(optimizer, state, path)
    requireSameTensors(`optimizer (${optimizer.name})`, parameters.optimizerTensors(), slots, path)
    copyInto(parameters.modelTensors(), model)
    copyInto(parameters.optimizerTensors(), slots)
    return state
  })
  if (loaded === null) return undefined
  if (links.size > 1) {
    for (const buffer of [parameters.values, ...parameters.slots]) await links.broadcast(buffer, 0)
  }
  const { user, ...progress } = loaded as unknown as Progress & { user: JsonObject }
  return { progress, state: user }
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
