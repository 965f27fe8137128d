/**
 * What all ranks do together about a checkpoint that each writes a part of: it begins where all of them see it, and is read
 * only if it is whole. What is in it is the caller's.
 */
import { randomUUID } from 'node:crypto'
import type { Communicator } from '../../collectives/communicator.js'
import { LockstepError } from '../../errors.js'
import { explainingReads, explainingWrites, type FoundSharded } from './checkpoints.js'
import { onAllRanks, onRankZero } from './collective.js'
import { storageAt } from './locations.js'
import type { HeldState } from './parts.js'
import { type Begun, readParts, verifyShards } from './shards.js'
import { DamagedError } from './storage.js'

/** Rank 0 begins a sharded checkpoint. @returns undefined where not all ranks see it, unless they must (`required`). */
export async function beginShards(
  links: Communicator,
  location: string,
  step: number,
  required = false,
): Promise<Begun | undefined> {
  const storage = storageAt(location)
  const path = storage.pathOf(step)
  const place = await onRankZero(links, () => explainingWrites(path, () => storage.begin(step)))
  const save = await onRankZero(links, async () => randomUUID())
  const blind = await firstBlind(links, location, place)
  if (blind === undefined) return { place, save }
  if (links.rank === 0) await storage.abandon(place)
  const what = `rank ${blind} does not see ${place}, where rank 0 has begun a sharded checkpoint`
  if (required)
    throw new LockstepError(`${what}: give a directory that all ranks share, or leave out sharded`)
  if (links.rank === 0)
    console.error(
      `lockstep: ${what}: rank 0 collects and writes it whole; all could write to a directory that they share`,
    )
  return undefined
}

/** Every rank checks some, and reads what it needs. @returns what is wrong with them, if something is: the same on all. */
export async function readShards(
  links: Communicator,
  location: string,
  path: string,
  shards: Pick<FoundSharded, 'index' | 'sums'>,
  { parts }: Pick<HeldState, 'parts'>,
): Promise<string | undefined> {
  const blind = await firstBlind(links, location, path)
  if (blind !== undefined)
    throw new LockstepError(
      `rank ${blind} does not see ${path}, whose shards all ranks read: give a directory that they share, or make a whole ` +
        `checkpoint of it: ddp-launch consolidate ${path} DIRECTORY`,
    )
  try {
    await onAllRanks(links, () => explainingReads(path, () => verifyShards(location, path, shards, links)))
    await onAllRanks(links, () =>
      explainingReads(path, () => readParts(location, path, shards.index, parts())),
    )
    return undefined
  } catch (error) {
    if (error instanceof DamagedError) return error.message
    throw error
  }
}

/** The first rank that does not see what lies at `path`; undefined where all do. */
async function firstBlind(links: Communicator, location: string, path: string): Promise<number | undefined> {
  const seen = Int32Array.of((await storageAt(location).sees(path)) ? 1 : 0)
  const all = links.size === 1 ? seen : ((await links.allGather(seen)) as Int32Array)
  const blind = all.indexOf(0)
  return blind === -1 ? undefined : blind
}
