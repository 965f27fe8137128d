/** How exported files appear: whole or not at all, and never over what is not an earlier export. */
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { LockstepError } from '../errors.js'
import { syncFolder, writeDurably } from './checkpoint/files.js'
import { isSystemError } from './checkpoint/storage.js'

/** Runs `work`; an error of the system becomes one line that names `path`. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (!isSystemError(cause)) throw cause
    throw new LockstepError(
      `cannot export to ${path}: ${cause.message}; give a path that can be written to`,
      { cause },
    )
  }
}

/** Writes the file at `path`, replacing one that is there; folders on the way are made. */
export async function writeFileWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}`
  await mkdir(dirname(path), { recursive: true })
  await rm(temporary, { force: true })
  try {
    await writeDurably(temporary, [bytes])
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } finally {
    await rm(temporary, { force: true })
  }
}

/**
 * Writes a folder of files, replacing one that holds nothing but files that `own` knows.
 * @throws LockstepError when there is something else in it.
 */
export async function writeFolderWhole(
  path: string,
  files: ReadonlyMap<string, Uint8Array>,
  own: RegExp,
): Promise<void> {
  const [temporary, old] = [`${path}.tmp-${process.pid}`, `${path}.old-${process.pid}`]
  const present = await readdir(path).catch((error) => {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  })
  const foreign = present?.find((name) => !own.test(name))
  if (foreign !== undefined) {
    throw new LockstepError(
      `cannot export to ${path}: it holds ${foreign}, which is no part of an export; give a new or an empty directory`,
    )
  }
  await rm(temporary, { recursive: true, force: true })
  try {
    await mkdir(temporary, { recursive: true })
    for (const [name, bytes] of files) await writeDurably(join(temporary, basename(name)), [bytes])
    await syncFolder(temporary)
    if (present !== undefined) await rename(path, old)
    await rename(temporary, path)
    await syncFolder(dirname(path))
    await rm(old, { recursive: true, force: true })
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}
