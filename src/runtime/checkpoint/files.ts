/**
 * Files that survive a power cut: written piece by piece, then flushed to the disk; and read back in order.
 * Refuses to know what a checkpoint is.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { DamagedError, isSystemError, type RandomSource, type Source } from './storage.js'

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
export function readFrom<T>(path: string, consume: (source: Source) => Promise<T>): Promise<T> {
  return withFile(path, async (file, fillAt) => {
    const { size } = await file.stat()
    let position = 0
    const fill = async (target: Uint8Array) => {
      await fillAt(target, position)
      position += target.length
    }
    return consume({ path, size, fill })
  })
}

/** Lets `use` read parts of the file. @throws as readFrom. */
export function openFile<T>(path: string, use: (file: RandomSource) => Promise<T>): Promise<T> {
  return withFile(path, (_, fillAt) => use({ path, fillAt }))
}

async function withFile<T>(
  path: string,
  use: (file: FileHandle, fillAt: RandomSource['fillAt']) => Promise<T>,
): Promise<T> {
  let file: FileHandle | undefined
  try {
    const opened = await open(path)
    file = opened
    const fillAt = async (target: Uint8Array, position: number) => {
      for (let done = 0; done < target.length; ) {
        const { bytesRead } = await opened.read(target, done, target.length - done, position + done)
        if (bytesRead === 0) throw new DamagedError(`${path}: it ends after ${position + done} bytes`)
        done += bytesRead
      }
    }
    return await use(opened, fillAt)
  } catch (cause) {
    if (!isSystemError(cause, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EIO')) throw cause
    throw new DamagedError(cause.message, { cause })
  } finally {
    await file?.close()
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
