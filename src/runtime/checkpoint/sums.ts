/** SHA256SUMS: the checksums of a checkpoint's other files, as sha256sum(1) writes and checks them. */
import { createHash, type Hash } from 'node:crypto'
import { DamagedError, type Source, type Storage } from './storage.js'

export const SUMS = 'SHA256SUMS'

/** SHA-256 (hexadecimal) by file name. */
export type Sums = ReadonlyMap<string, string>

export const sumLine = (name: string, sha256: string): string => `${sha256}  ${name}\n`

/** @throws DamagedError when it is not there. */
export async function readSums(storage: Storage, path: string): Promise<Sums> {
  const text = await storage.read(path, SUMS, readText)
  return new Map([...text.matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(([, sum, name]) => [name!, sum!]))
}

/** @returns the SHA-256 of what it has written. */
export async function writeHashed(
  storage: Storage,
  place: string,
  name: string,
  pieces: Iterable<Uint8Array>,
): Promise<string> {
  const hash = createHash('sha256')
  await storage.write(place, name, hashed(pieces, hash))
  return hash.digest('hex')
}

/** What `consume` makes of a file, all of which it reads. @throws DamagedError: it is not there, or not what was written. */
export async function verified<T>(
  storage: Storage,
  path: string,
  name: string,
  sums: Sums,
  consume: (source: Source) => Promise<T>,
): Promise<T> {
  const expected = sums.get(name)
  if (expected === undefined) throw new DamagedError(`${path}/${SUMS} has no line for ${name}`)
  return storage.read(path, name, async (source) => {
    const hash = createHash('sha256')
    const fill = async (target: Uint8Array) => {
      await source.fill(target)
      hash.update(target)
    }
    const content = await consume({ ...source, fill })
    const sha256 = hash.digest('hex')
    if (sha256 === expected) return content
    throw new DamagedError(`${source.path} has SHA-256 ${sha256}, expected ${expected}`)
  })
}

export async function readText({ size, fill }: Source): Promise<string> {
  const bytes = Buffer.alloc(size)
  await fill(bytes)
  return bytes.toString()
}

function* hashed(pieces: Iterable<Uint8Array>, hash: Hash): Generator<Uint8Array> {
  for (const piece of pieces) {
    hash.update(piece)
    yield piece
  }
}
