/**
 * Checkpoints: a folder `step-00000150` each, complete or not there at all (docs/checkpoint-format.md).
 * Refuses to know models and ranks, disks and buckets: one process writes, and one reads.
 */
import { createHash, type Hash } from 'node:crypto'
import { LockstepError } from '../../errors.js'
import { storageAt } from './locations.js'
import { bestOf, expendable, type Metric } from './retention.js'
import type { NamedTensor } from './safetensors.js'
import { DamagedError, explainingIo, type Source, type Storage, type Stored } from './storage.js'
import { readTensors, tensorPieces } from './tensors.js'

export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json
}

export interface Checkpoint {
  /** Optimizer steps done when it was taken. */
  readonly step: number
  readonly model: readonly NamedTensor[]
  readonly optimizer: readonly NamedTensor[]
  /** Whatever else a resumed run needs: epoch, sampler position, random state, hyper-parameters. */
  readonly state: JsonObject
  readonly metric?: Metric | undefined
}

/** Which one to read; the newest undamaged one where nothing is said. */
export interface Which {
  /** The one of this step. */
  readonly step?: number | undefined
  /** The best by the metric of this name. */
  readonly best?: string | undefined
}

export interface Found extends Checkpoint {
  readonly path: string
  /** Newer ones that were passed over, and why. */
  readonly damaged: readonly string[]
}

const FORMAT = 'lockstep-checkpoint'
const VERSION = 1
const MODEL = 'model.safetensors'
const OPTIMIZER = 'optimizer.safetensors'
const STATE = 'state.json'
const SUMS = 'SHA256SUMS'

/**
 * Writes a checkpoint that is complete or not there, whenever the process dies; those that were there stay. With
 * `keepLast`, deletes older ones then: all but that many, the best by each metric, and the one just written.
 * @param location a directory, or `s3://bucket/prefix`. @returns the checkpoint's path.
 * @throws LockstepError naming the path and the cause when it cannot be written; nothing of it is left then.
 */
export async function writeCheckpoint(
  location: string,
  { step, model, optimizer, state, metric }: Checkpoint,
  keepLast?: number,
): Promise<string> {
  const storage = storageAt(location)
  const text = `${JSON.stringify({ format: FORMAT, version: VERSION, step, metric, state }, undefined, 2)}\n`
  const files: [name: string, pieces: Iterable<Uint8Array>][] = [
    [MODEL, tensorPieces(model)],
    [OPTIMIZER, tensorPieces(optimizer)],
    [STATE, [Buffer.from(text)]],
  ]
  const context = `cannot write checkpoint ${storage.pathOf(step)}`
  const path = await explainingIo(
    context,
    'give a directory that this process may write to, on a disk with room',
    () =>
      storage.create(step, async (write) => {
        const sums: string[] = []
        for (const [name, pieces] of files) {
          const hash = createHash('sha256')
          await write(name, hashed(pieces, hash))
          sums.push(`${hash.digest('hex')}  ${name}\n`)
        }
        await write(SUMS, [Buffer.from(sums.join(''))])
      }),
  )
  if (keepLast !== undefined) await removeOld(storage, keepLast, step, location)
  return path
}

/**
 * The checkpoint of the highest step, every checksum verified; a damaged one is passed over for the one before. With
 * `which`, the one asked for and no other. Undefined when there is none at all.
 * @throws LockstepError when `location` cannot be read, all are damaged, the one asked for is, or is not there: names
 *   the file, what was found, what was expected, and what to do.
 */
export async function readCheckpoint(location: string, which: Which = {}): Promise<Found | undefined> {
  const storage = storageAt(location)
  const advice = 'give a directory that holds checkpoints, or a new one'
  const context = `cannot read checkpoints in ${location}`
  const all = await explainingIo(context, advice, () => storage.list())
  if (all.length === 0) return undefined
  const damaged: string[] = []
  for (const { path } of await explainingIo(context, advice, () => choose(storage, all, which, location))) {
    const attempt = () => readOne(storage, path)
    try {
      const read = await explainingIo(
        `cannot resume from checkpoint ${path}`,
        'see that this process can read it',
        attempt,
      )
      return { path, damaged, ...parseState(read.state, path), model: read.model, optimizer: read.optimizer }
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

async function choose(
  storage: Storage,
  all: readonly Stored[],
  { step, best }: Which,
  location: string,
): Promise<readonly Stored[]> {
  if (step === undefined && best === undefined) return all
  const chosen =
    best === undefined ? all.find((stored) => stored.step === step) : bestOf(await rated(storage, all), best)
  if (chosen !== undefined) return [chosen]
  const asked = best === undefined ? `of step ${step}` : `with a metric ${best}`
  throw new LockstepError(
    `${location} has no checkpoint ${asked}: its steps are ${all.map((stored) => stored.step).join(', ')}; ` +
      'load one of them, or the newest by asking for none',
  )
}

async function removeOld(
  storage: Storage,
  keepLast: number,
  written: number,
  location: string,
): Promise<void> {
  const advice = 'see that this process may delete there, or save without keepLast'
  await explainingIo(`cannot remove old checkpoints in ${location}`, advice, async () => {
    const all = await storage.list()
    if (all.length <= keepLast) return
    for (const { path } of expendable(await rated(storage, all), keepLast, written))
      await storage.remove(path)
  })
}

/** With their metrics. One whose state cannot be read has none. */
function rated(storage: Storage, all: readonly Stored[]): Promise<(Stored & { metric?: Metric })[]> {
  return Promise.all(
    all.map(async (stored) => {
      const { metric } = await readState(storage, stored.path).catch((error): { metric?: Metric } => {
        if (error instanceof DamagedError) return {}
        throw error
      })
      return metric === undefined ? stored : { ...stored, metric }
    }),
  )
}

async function readState(storage: Storage, path: string): Promise<{ metric?: Metric }> {
  const text = await storage.read(path, STATE, readText)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new DamagedError(`${path}/${STATE} is not JSON`, { cause })
  }
}

async function readOne(storage: Storage, path: string) {
  const sums = parseSums(await storage.read(path, SUMS, readText), `${path}/${SUMS}`)
  const verified = <T>(name: string, consume: (source: Source) => Promise<T>) =>
    storage.read(path, name, async (source) => {
      const hash = createHash('sha256')
      const fill = async (target: Uint8Array) => {
        await source.fill(target)
        hash.update(target)
      }
      const content = await consume({ ...source, fill })
      const sha256 = hash.digest('hex')
      if (sha256 === sums.get(name)) return content
      throw new DamagedError(`${source.path} has SHA-256 ${sha256}, expected ${sums.get(name)}`)
    })
  return {
    state: await verified(STATE, readText),
    model: await verified(MODEL, readTensors),
    optimizer: await verified(OPTIMIZER, readTensors),
  }
}

async function readText({ size, fill }: Source): Promise<string> {
  const bytes = Buffer.alloc(size)
  await fill(bytes)
  return bytes.toString()
}

/** Of a file whose checksum is right: one of another version is no damage, and is not passed over. */
function parseState(text: string, path: string): Pick<Checkpoint, 'step' | 'state' | 'metric'> {
  const { format, version, step, state, metric } = JSON.parse(text)
  if (format === FORMAT && version === VERSION) return { step, state, ...(metric && { metric }) }
  throw new LockstepError(
    `${path}/${STATE} says ${format} version ${version}, expected ${FORMAT} version ${VERSION}: ` +
      'resume with the Lockstep that wrote it, or give another directory',
  )
}

/** The format of sha256sum(1): hex, two spaces, name. */
function parseSums(text: string, path: string): Map<string, string> {
  const sums = new Map([...text.matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(([, sum, name]) => [name!, sum!]))
  for (const name of [MODEL, OPTIMIZER, STATE]) {
    if (!sums.has(name)) throw new DamagedError(`${path} has no line for ${name}`)
  }
  return sums
}

function* hashed(pieces: Iterable<Uint8Array>, hash: Hash): Generator<Uint8Array> {
  for (const piece of pieces) {
    hash.update(piece)
    yield piece
  }
}
