/** What is to be written of a checkpoint by one rank, in the calling thread or in one of its own; and doing it. */
import {
  type Checkpoint,
  completeSharded,
  explainingWrites,
  type Particulars,
  writeCheckpoint,
} from './checkpoints.js'
import { storageAt } from './locations.js'
import type { Part } from './parts.js'
import { awaitShards, type Begun, writeShard } from './shards.js'

/** A whole checkpoint. */
export interface WholeTask {
  readonly location: string
  readonly checkpoint: Checkpoint
  readonly keepLast: number | undefined
}

/** This rank's shard; rank 0 then completes the checkpoint when all are there. */
export interface ShardTask {
  readonly location: string
  readonly begun: Begun
  readonly rank: number
  readonly size: number
  readonly parts: readonly Part[]
  readonly particulars: Particulars
  readonly keepLast: number | undefined
}

export type WriteTask = WholeTask | ShardTask

/** @returns the checkpoint's path, on rank 0. @throws as writeCheckpoint, or what `signal` was aborted with. */
export async function perform(task: WriteTask, signal: AbortSignal): Promise<string> {
  if ('checkpoint' in task) return writeCheckpoint(task.location, task.checkpoint, task.keepLast)
  const { location, begun, rank, size, parts, particulars, keepLast } = task
  const storage = storageAt(location)
  const path = storage.pathOf(particulars.step)
  const write = () => writeShard(storage, begun, { rank, size }, parts)
  if (rank > 0) {
    await explainingWrites(path, write)
    return path
  }
  const shards = async () => {
    await write()
    return awaitShards(storage, begun, size, signal)
  }
  return completeSharded(location, begun.place, particulars, shards, keepLast)
}
