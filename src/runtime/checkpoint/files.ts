/**
 * Files that survive a power cut: written and read in pieces, hashed on the way (SHA-256), flushed to the disk.
 * Refuses to know what a checkpoint is, and to hold a second copy of the tensors.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { LockstepError } from '../../errors.js'
import {
  decodeHeader,
  decodeHeaderLength,
  encodeHeader,
  LENGTH_BYTES,
  type NamedTensor,
} from './safetensors.js'

const PIECE = 16 * 2 ** 20 // bytes hashed and written at once: the event loop breathes between pieces

/** Writes `parts` one after the other into a new file and flushes it to the disk; returns its SHA-256 in hex. */
export async function writeDurably(path: string, parts: Iterable<ArrayBufferView>): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'wx')
  try {
    for (const part of parts) {
      for (const piece of pieces(part)) {
        hash.update(piece)
        await file.writeFile(piece)
      }
    }
    await file.sync()
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}

/** Writes a safetensors file as `writeDurably` does. */
export function writeTensors(path: string, tensors: readonly NamedTensor[]): Promise<string> {
  return writeDurably(path, [encodeHeader(tensors), ...tensors.map(({ data }) => data)])
}

/**
 * Reads a safetensors file; memory for tensors is taken only once its header has been checked against its length.
 * @throws LockstepError naming the path and what is wrong with its content; system errors as they are.
 */
export async function readTensors(path: string): Promise<{ tensors: NamedTensor[]; sha256: string }> {
  const hash = createHash('sha256')
  const file = await open(path)
  try {
    const { size } = await file.stat()
    let position = 0
    const fill = async <T extends ArrayBufferView>(target: T): Promise<T> => {
      for (const piece of pieces(target)) {
        await readFully(file, piece, position, path)
        hash.update(piece)
        position += piece.length
      }
      return target
    }
    if (size < LENGTH_BYTES)
      throw new LockstepError(`${path}: it has ${size} bytes, a header takes at least 8`)
    const length = decodeHeaderLength(await fill(new Uint8Array(LENGTH_BYTES)), size, path)
    const header = await fill(new Uint8Array(length))
    const entries = decodeHeader(header, size - position, path)
    const tensors: NamedTensor[] = []
    for (const { name, shape, begin, end } of entries) {
      const data = await fill(new Float32Array((end - begin) / Float32Array.BYTES_PER_ELEMENT))
      tensors.push({ name, shape, data })
    }
    return { tensors, sha256: hash.digest('hex') }
  } finally {
    await file.close()
  }
}

/** Flushes a folder's own entries (new names, renames) to the disk. Windows cannot, and needs no such thing. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Runs `work`; a system error (disk full, not a directory, …) becomes a LockstepError `context: cause; advice`. */
export async function explainingIo<T>(context: string, advice: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (!isSystemError(cause)) throw cause
    throw new LockstepError(`${context}: ${cause.message}; ${advice}`, { cause })
  }
}

export function isSystemError(error: unknown, code?: string): error is NodeJS.ErrnoException {
  return (
    error instanceof Error &&
    'syscall' in error &&
    (code === undefined || (error as NodeJS.ErrnoException).code === code)
  )
}

async function readFully(
  file: FileHandle,
  target: Uint8Array,
  position: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done)
    if (bytesRead === 0)
      throw new LockstepError(`${path}: it shrank to ${position + done} bytes while being read`)
    done += bytesRead
  }
}

function* pieces({ buffer, byteOffset, byteLength }: ArrayBufferView): Generator<Uint8Array> {
  for (let at = 0; at < byteLength; at += PIECE) {
    yield new Uint8Array(buffer, byteOffset + at, Math.min(PIECE, byteLength - at))
  }
}
