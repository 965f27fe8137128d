/**
 * Checkpoints: a folder `step-00000150` each, complete or not there at all (docs/checkpoint-format.md).
 * Refuses to know models and ranks, disks and buckets: one process writes, and one reads.
 */
import { LockstepError } from '../../errors.js'
import { choose, removeOld, STATE, type Which } from './choose.js'
import type { JsonObject } from './json.js'
import { storageAt } from './locations.js'
import type { Metric } from './retention.js'
import type { NamedTensor } from './safetensors.js'
import { INDEX, type Index, parseIndex } from './shard-index.js'
import { readShards } from './shards.js'
import { completing, createIn, DamagedError, explainingIo, type Storage } from './storage.js'
import { readSums, readText, SUMS, type Sums, sumLine, verified, writeHashed } from './sums.js'
import { readTensors, tensorPieces } from './tensors.js'

export type { Json, JsonObject } from './json.js'

export interface Checkpoint {
  /** Optimizer steps done when it was taken. */
  readonly step: number
  readonly model: readonly NamedTensor[]
  readonly optimizer: readonly NamedTensor[]
  /** Whatever else a resumed run needs: epoch, sampler position, random state, hyper-parameters. */
  readonly state: JsonObject
  readonly metric?: Metric | undefined
}

/** What beside tensors is in a checkpoint. */
export type Particulars = Pick<Checkpoint, 'step' | 'state' | 'metric'>

interface Place {
  readonly path: string
  /** Newer ones that were passed over, and why. */
  readonly damaged: readonly string[]
}

/** Its tensors lie in shards (shards.ts), which are still to be verified and read. */
export interface FoundSharded extends Particulars, Place {
  readonly index: Index
  readonly sums: Sums
}

export type Found = Checkpoint & Place

const FORMAT = 'lockstep-checkpoint'
/** Of whole checkpoints, and of sharded ones. */
const VERSIONS = [1, 2]
const MODEL = 'model.safetensors'
const OPTIMIZER = 'optimizer.safetensors'

/**
 * Writes a checkpoint that is complete or not there, whenever the process dies; those that were there stay. With
 * `keepLast`, deletes older ones then: all but that many, the best by each metric, and the one just written.
 * @param location a directory, or `s3://bucket/prefix`. @returns the checkpoint's path.
 * @throws LockstepError naming the path and the cause when it cannot be written; nothing of it is left then.
 */
export async function writeCheckpoint(
  location: string,
  { model, optimizer, ...particulars }: Checkpoint,
  keepLast?: number,
): Promise<string> {
  const storage = storageAt(location)
  const { step } = particulars
  const path = await explainingWrites(storage.pathOf(step), () =>
    createIn(storage, step, async (place) => {
      const lines: string[] = []
      const write = async (name: string, pieces: Iterable<Uint8Array>) => {
        lines.push(sumLine(name, await writeHashed(storage, place, name, pieces)))
      }
      await write(MODEL, tensorPieces(model))
      await write(OPTIMIZER, tensorPieces(optimizer))
      await write(STATE, [stateFile(particulars, 1)])
      await storage.write(place, SUMS, [Buffer.from(lines.join(''))])
    }),
  )
  if (keepLast !== undefined) await removeOld(storage, keepLast, step, location)
  return path
}

/**
 * The end of a checkpoint whose shards are in `place`: writes the index of them and what else there is, then lets readers see
 * it, and removes old ones as writeCheckpoint does. @returns its path. @throws as writeCheckpoint.
 * @param shards settles when all shards are written
 */
export async function completeSharded(
  location: string,
  place: string,
  particulars: Particulars,
  shards: () => Promise<{ readonly index: Index; readonly sums: Sums }>,
  keepLast?: number,
): Promise<string> {
  const storage = storageAt(location)
  const { step } = particulars
  const path = await explainingWrites(storage.pathOf(step), () =>
    completing(storage, place, async () => {
      const { index, sums } = await shards()
      const lines = [...sums].map(([name, sum]) => sumLine(name, sum))
      for (const [name, bytes] of [
        [STATE, stateFile(particulars, 2)],
        [INDEX, Buffer.from(`${JSON.stringify(index)}\n`)],
      ] as const)
        lines.push(sumLine(name, await writeHashed(storage, place, name, [bytes])))
      await storage.write(place, SUMS, [Buffer.from(lines.join(''))])
    }),
  )
  if (keepLast !== undefined) await removeOld(storage, keepLast, step, location)
  return path
}

export function explainingWrites<T>(path: string, work: () => Promise<T>): Promise<T> {
  const advice = 'give a directory that this process may write to, on a disk with room'
  return explainingIo(`cannot write checkpoint ${path}`, advice, work)
}

export function explainingReads<T>(path: string, work: () => Promise<T>): Promise<T> {
  return explainingIo(`cannot resume from checkpoint ${path}`, 'see that this process can read it', work)
}

function stateFile(particulars: Particulars, version: number): Uint8Array {
  const { step, metric, state } = particulars
  return Buffer.from(`${JSON.stringify({ format: FORMAT, version, step, metric, state }, undefined, 2)}\n`)
}

/**
 * The checkpoint of the highest step, every checksum verified but those of shards; a damaged one is passed over for the one
 * before. With `which`, the one asked for and no other. Undefined when there is none at all.
 * @param known paths of damaged ones, and what is wrong with them
 * @throws LockstepError when `location` cannot be read, all are damaged, the one asked for is, or is not there: names
 *   the file, what was found, what was expected, and what to do.
 */
export async function findCheckpoint(
  location: string,
  which: Which = {},
  known: ReadonlyMap<string, string> = new Map(),
): Promise<Found | FoundSharded | undefined> {
  refuseSingle(location)
  const storage = storageAt(location)
  const advice = 'give a directory that holds checkpoints, or a new one'
  const context = `cannot read checkpoints in ${location}`
  const all = await explainingIo(context, advice, () => storage.list())
  if (all.length === 0) return undefined
  const damaged: string[] = []
  for (const { path } of await explainingIo(context, advice, () => choose(storage, all, which, location))) {
    try {
      if (known.has(path)) throw new DamagedError(known.get(path)!)
      return { path, damaged, ...(await explainingReads(path, () => readOne(storage, path))) }
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error
      damaged.push(`checkpoint ${path} is damaged (${error.message})`)
    }
  }
  const others = damaged.length > 1 ? `, and so are the ${damaged.length - 1} before it` : ''
  const mend =
    damaged.length < all.length ? 'load another' : 'delete what is damaged to start from the beginning'
  throw new LockstepError(`cannot resume: ${damaged[0]}${others}; ${mend}`)
}

/** Or a job that is to go on from it would begin anew. */
function refuseSingle(location: string): void {
  const [, directory = '.', step] = /^(?:(.*)\/)?step-(\d{8,})\/?$/.exec(location) ?? []
  if (step === undefined) return
  throw new LockstepError(
    `${location} is a checkpoint itself: expected the directory that holds it; load it by ` +
      `load('${directory}', { step: ${Number(step)} })`,
  )
}

/** As findCheckpoint, with the tensors of shards, too, whole and checked: for a single process. */
export async function readCheckpoint(location: string, which: Which = {}): Promise<Found | undefined> {
  const known = new Map<string, string>()
  for (;;) {
    const found = await findCheckpoint(location, which, known)
    if (found === undefined || 'model' in found) return found
    const { index, sums, ...rest } = found
    try {
      return { ...rest, ...(await explainingReads(found.path, () => readShards(location, found))) }
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error
      known.set(found.path, error.message)
    }
  }
}

async function readOne(
  storage: Storage,
  path: string,
): Promise<Checkpoint | Omit<FoundSharded, keyof Place>> {
  const sums = await readSums(storage, path)
  const read = <T>(name: string, consume: Parameters<typeof verified<T>>[4]) =>
    verified(storage, path, name, sums, consume)
  const particulars = parseState(await read(STATE, readText), path)
  if (sums.has(INDEX))
    return { ...particulars, sums, index: parseIndex(await read(INDEX, readText), `${path}/${INDEX}`) }
  return {
    ...particulars,
    model: await read(MODEL, readTensors),
    optimizer: await read(OPTIMIZER, readTensors),
  }
}

/** Of a file whose checksum is right: one of another version is no damage, and is not passed over. */
function parseState(text: string, path: string): Particulars {
  const { format, version, step, state, metric } = JSON.parse(text)
  if (format === FORMAT && VERSIONS.includes(version)) return { step, state, ...(metric && { metric }) }
  throw new LockstepError(
    `${path}/${STATE} says ${format} version ${version}, expected ${FORMAT} version ${VERSIONS.join(' or ')}: ` +
      'resume with the Lockstep that wrote it, or give another directory',
  )
}
