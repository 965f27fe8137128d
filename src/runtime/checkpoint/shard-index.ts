/** The index of a sharded checkpoint: which numbers of which tensor lie where in which shard. Pure; it opens no file. */
import { LockstepError } from '../../errors.js'
import type { Described, Kind } from './parts.js'
import type { Runs } from './runs.js'

export const INDEX = 'index.json'

/** Numbers that lie together in a shard, in the order of `runs`. */
export interface Stretch extends Runs {
  readonly shard: number
  /** Their first byte in the file. */
  readonly at: number
}

export interface IndexedTensor extends Described {
  readonly kind: Kind
  readonly stretches: readonly Stretch[]
}

export interface Index {
  readonly format: 'lockstep-index'
  readonly version: 1
  /** Names of the files, one for each rank that wrote. */
  readonly shards: readonly string[]
  readonly tensors: readonly IndexedTensor[]
}

/** What one shard holds: as in the index, but for the number of the shard. */
export type ShardTensor = Described & { readonly kind: Kind; readonly stretch: Omit<Stretch, 'shard'> }

export const shardName = (rank: number, ranks: number): string =>
  `shard-${String(rank).padStart(5, '0')}-of-${String(ranks).padStart(5, '0')}.safetensors`

/** @param contents of each shard, in rank order */
export function indexOf(contents: readonly (readonly ShardTensor[])[]): Index {
  const tensors = new Map<string, IndexedTensor & { stretches: Stretch[] }>()
  for (const [shard, held] of contents.entries()) {
    for (const { kind, name, shape, stretch } of held) {
      const key = `${kind}/${name}`
      const tensor = tensors.get(key) ?? { kind, name, shape, stretches: [] }
      tensor.stretches.push({ ...stretch, shard })
      tensors.set(key, tensor)
    }
  }
  return {
    format: 'lockstep-index',
    version: 1,
    shards: contents.map((_, rank) => shardName(rank, contents.length)),
    tensors: [...tensors.values()],
  }
}

/** Of a file whose checksum is right. @throws LockstepError when another version of Lockstep has written it. */
export function parseIndex(text: string, path: string): Index {
  const index: Index = JSON.parse(text)
  if (index.format === 'lockstep-index' && index.version === 1) return index
  throw new LockstepError(
    `${path} says ${index.format} version ${index.version}, expected lockstep-index version 1: resume with the Lockstep ` +
      'that wrote it, or give another directory',
  )
}
