/**
 * Shards: the files in which the ranks write a checkpoint together, each what it holds, and from which any other ranks read
 * what they need. Beside each shard lies, until the checkpoint is complete, a description of it: whoever completes it waits
 * for those, so that no rank's thread has to wait for another rank's training.
 */
import { setTimeout } from 'node:timers/promises'
import { storageAt } from './locations.js'
import { floatsOf, type Kind, keyOf, type Part, type WholeTensors, wholePart } from './parts.js'
import { piecesOf } from './pieces.js'
import { type Common, common, sizeOf } from './runs.js'
import { encodeHeader, type NamedTensor } from './safetensors.js'
import { type Index, indexOf, type ShardTensor, type Stretch, shardName } from './shard-index.js'
import { DamagedError, type RandomSource, type Source, type Storage } from './storage.js'
import { readText, type Sums, verified, writeHashed } from './sums.js'
import { tensorPieces } from './tensors.js'

const FIRST_LOOK_MS = 5
const LONGEST_WAIT_MS = 500
/** Numbers that are read although nobody wants them, where that saves a read. */
const GAP_FLOATS = 4096
const WINDOW_FLOATS = 2 ** 20
const FLOAT = Float32Array.BYTES_PER_ELEMENT

interface Description {
  /** Of the save that it belongs to: a rank of a job that is slow to die may still write. */
  readonly save: string
  readonly sha256: string
  readonly tensors: readonly ShardTensor[]
}

/** A sharded checkpoint that rank 0 has begun. */
export interface Begun {
  readonly place: string
  /** Drawn anew for each. */
  readonly save: string
}

const descriptionOf = (shard: string) => shard.replace(/\.safetensors$/, '.json')

/** Writes what this rank has to write, then says so to whoever completes the checkpoint. Throws system errors. */
export async function writeShard(
  storage: Storage,
  { place, save }: Begun,
  { rank, size }: { readonly rank: number; readonly size: number },
  parts: readonly Part[],
): Promise<void> {
  const name = shardName(rank, size)
  const entries = namedEntries(parts)
  let at = encodeHeader(entries).length
  const tensors = parts.map(({ kind, name, shape, runs, data }) => {
    const stretch = { ...runs, at }
    at += data.byteLength
    return { kind, name, shape, stretch }
  })
  const sha256 = await writeHashed(storage, place, name, tensorPieces(entries))
  const description: Description = { save, sha256, tensors }
  await storage.write(place, descriptionOf(name), [Buffer.from(JSON.stringify(description))])
}

/** Settles when all ranks have written theirs: what is in them, and their checksums. @throws what `signal` was aborted with. */
export async function awaitShards(
  storage: Storage,
  { place, save }: Begun,
  ranks: number,
  signal: AbortSignal,
): Promise<{ readonly index: Index; readonly sums: Sums }> {
  const names = Array.from({ length: ranks }, (_, rank) => shardName(rank, ranks))
  const descriptions: Description[] = []
  for (const name of names) {
    for (let wait = FIRST_LOOK_MS; ; wait = Math.min(1.5 * wait, LONGEST_WAIT_MS)) {
      signal.throwIfAborted()
      const description = await readDescription(storage, place, descriptionOf(name))
      if (description?.save === save) {
        descriptions.push(description)
        break
      }
      await setTimeout(wait)
    }
  }
  for (const name of names) await storage.discard(place, descriptionOf(name))
  return {
    index: indexOf(descriptions.map(({ tensors }) => tensors)),
    sums: new Map(names.map((name, rank) => [name, descriptions[rank]!.sha256])),
  }
}

/** Reads whole shards and checks their sums: this rank's share of them, so that all ranks together check each once. */
export async function verifyShards(
  location: string,
  path: string,
  { index, sums }: { readonly index: Index; readonly sums: Sums },
  { rank, size }: { readonly rank: number; readonly size: number },
): Promise<void> {
  const storage = storageAt(location)
  for (const [i, name] of index.shards.entries()) {
    if (i % size === rank) await verified(storage, path, name, sums, readToEnd)
  }
}

/**
 * Fills `parts` with the numbers that they lack, reading little else. @throws DamagedError when the index has not all.
 */
export async function readParts(
  location: string,
  path: string,
  index: Index,
  parts: readonly Part[],
): Promise<void> {
  const storage = storageAt(location)
  const tensors = new Map(index.tensors.map((tensor) => [keyOf(tensor), tensor]))
  const missing = new Map(parts.map((part) => [part, part.data.length]))
  for (const [shard, name] of index.shards.entries()) {
    const wanted = parts.flatMap((part) =>
      (tensors.get(keyOf(part))?.stretches ?? [])
        .filter((stretch) => stretch.shard === shard)
        .map((stretch) => [part, stretch] as const),
    )
    if (wanted.length === 0) continue
    await storage.open(path, name, async (file) => {
      for (const [part, stretch] of wanted)
        missing.set(part, missing.get(part)! - (await readStretch(file, stretch, part)))
    })
  }
  for (const [{ name }, floats] of missing) {
    if (floats > 0) throw new DamagedError(`${path}: its index lacks ${floats} numbers of tensor "${name}"`)
  }
}

/** All of it, checked. */
export async function readShards(
  location: string,
  { path, ...shards }: { readonly path: string; readonly index: Index; readonly sums: Sums },
): Promise<WholeTensors> {
  await verifyShards(location, path, shards, { rank: 0, size: 1 })
  const copy = { rank: 0, size: 1, among: 'this rank' }
  const parts = shards.index.tensors.map(({ kind, name, shape }) =>
    wholePart(kind, { name, shape, data: new Float32Array(floatsOf(shape)) }, copy),
  )
  await readParts(location, path, shards.index, parts)
  const of = (kind: Kind) =>
    parts.filter((part) => part.kind === kind).map(({ name, shape, data }) => ({ name, shape, data }))
  return { model: of('model'), optimizer: of('optimizer') }
}

/** @returns how many numbers of `part` are in `stretch`. */
async function readStretch(file: RandomSource, stretch: Stretch, { runs, data }: Part): Promise<number> {
  let found = 0
  for (const window of windows(common(stretch, runs))) {
    const [first, last] = [window[0]!, window.at(-1)!]
    const floats = last.a + last.length - first.a
    // Straight to where they belong if they lie together there, too.
    const target = window.length === 1 ? data.subarray(first.b, first.b + floats) : new Float32Array(floats)
    let at = stretch.at + first.a * FLOAT
    for (const piece of piecesOf(target)) {
      await file.fillAt(piece, at)
      at += piece.length
    }
    for (const { a, b, length } of window) {
      if (window.length > 1) data.set(target.subarray(a - first.a, a - first.a + length), b)
      found += length
    }
  }
  return found
}

/** What is read at once. */
function* windows(found: Iterable<Common>): Generator<Common[]> {
  let window: Common[] = []
  for (const next of found) {
    const [first, last] = [window[0], window.at(-1)]
    const near = last !== undefined && next.a - (last.a + last.length) <= GAP_FLOATS
    if (first && !(near && next.a + next.length - first.a <= WINDOW_FLOATS)) {
      yield window
      window = []
    }
    window.push(next)
  }
  if (window.length > 0) yield window
}

/** `model/dense/kernel`, with `#1` … behind it for a tensor's further parts in the same shard. */
function namedEntries(parts: readonly Part[]): NamedTensor[] {
  const seen = new Map<string, number>()
  return parts.map((part) => {
    const { runs, shape, data } = part
    const key = keyOf(part)
    const nth = seen.get(key) ?? 0
    seen.set(key, nth + 1)
    const isWhole = sizeOf(runs) === floatsOf(shape)
    const ownShape = isWhole ? shape : runs.count > 1 ? [runs.count, runs.length] : [runs.length]
    return { name: nth === 0 ? key : `${key}#${nth}`, shape: ownShape, data }
  })
}

async function readDescription(
  storage: Storage,
  place: string,
  name: string,
): Promise<Description | undefined> {
  try {
    return JSON.parse(await storage.read(place, name, readText))
  } catch (error) {
    // Not there, or not all of it.
    if (error instanceof DamagedError || error instanceof SyntaxError) return undefined
    throw error
  }
}

async function readToEnd({ size, fill }: Source): Promise<void> {
  const piece = new Uint8Array(Math.min(size, 4 * 2 ** 20))
  for (let at = 0; at < size; at += piece.length) await fill(piece.subarray(0, size - at))
}
