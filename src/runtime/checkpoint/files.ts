/**
 * Files that survive a power cut: written piece by piece, then flushed to the disk; and read back in order.
 * Refuses to know what a checkpoint is.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { DamagedError, isSystemError, type Source } from './storage.js'

/** Writes `pieces` one after the other into a new file and flushes it to the disk. */
export async function writeDurably(path: string, pieces: Iterable<Uint8Array>): Promise<void> {
  const file = await open(path, 'wx')
  try {
    for (const piece of pieces) await file.writeFile(piece)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Lets `consume` read the file. @throws DamagedError when there is none, or the disk cannot give it back. */
export async function readFrom<T>(path: string, consume: (source: Source) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined
  try {
    file = await open(path)
    return await consume(await sourceOf(file, path))
  } catch (cause) {
    if (!isSystemError(cause, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EIO')) throw cause
    throw new DamagedError(cause.message, { cause })
  } finally {
    await file?.close()
  }
}

async function sourceOf(file: FileHandle, path: string): Promise<Source> {
  const { size } = await file.stat()
  let position = 0
  const fill = async (target: Uint8Array) => {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await file.read(target, done, target.length - done, position)
      if (bytesRead === 0) throw new DamagedError(`${path}: it ends after ${position} bytes`)
      done += bytesRead
      position += bytesRead
    }
  }
  return { path, size, fill }
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
