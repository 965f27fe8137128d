/**
 * Names and fates of checkpoint folders: which are complete, which are left over, how one takes its place.
 * Refuses to look into them. One job uses a directory at a time.
 */
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder } from './files.js'
import { isSystemError, type Stored } from './storage.js'

// step-00000150: complete. .tmp-PID: being written. .old-PID: complete, and being replaced by one of the same step.
const NAME = /^(?<final>step-(?<step>\d{8,}))(?:\.(?<kind>tmp|old)-(?<pid>\d+))?$/

interface Folder {
  readonly name: string
  readonly final: string
  readonly step: number
  readonly kind: string | undefined
  readonly pid: number
}

/** The complete checkpoints in `dir`, highest step first; none when `dir` does not exist. */
export async function listComplete(dir: string): Promise<Stored[]> {
  const folders = await list(dir).catch((error) => {
    if (isSystemError(error, 'ENOENT')) return []
    throw error
  })
  return folders
    .filter(({ kind, final }) => kind === undefined || (kind === 'old' && !has(folders, final)))
    .sort((a, b) => b.step - a.step)
    .map(({ name, step }) => ({ step, path: join(dir, name) }))
}

/** Makes a temporary folder for the checkpoint of `step`, and removes what dead runs left. @returns its path. */
export async function beginFolder(dir: string, step: number): Promise<string> {
  const temporary = `${folderPath(dir, step)}.tmp-${process.pid}`
  await makeFolder(dir)
  await removeLeftovers(dir, temporary)
  await mkdir(temporary)
  return temporary
}

/**
 * Flushes a temporary folder and renames it to its proper name, replacing one of that name. At every moment the old or the
 * new one is there, complete, under a name that listComplete() knows. @returns the folder's path. Throws system errors.
 */
export async function completeFolder(temporary: string): Promise<string> {
  const folder = temporary.replace(/\.tmp-\d+$/, '')
  const old = `${folder}.old-${process.pid}`
  await syncFolder(temporary)
  await rename(folder, old).catch((error) => {
    if (!isSystemError(error, 'ENOENT')) throw error
  })
  await rename(temporary, folder)
  await syncFolder(dirname(folder))
  await rm(old, { recursive: true, force: true })
  return folder
}

export async function abandonFolder(temporary: string): Promise<void> {
  await rm(temporary, { recursive: true, force: true })
}

/** Deletes one that listComplete() gave; it first takes a name that readers pass over. */
export async function removeFolder(path: string): Promise<void> {
  const temporary = `${path.replace(/\.old-\d+$/, '')}.tmp-${process.pid}`
  await rm(temporary, { recursive: true, force: true })
  await rename(path, temporary)
  await syncFolder(dirname(path))
  await rm(temporary, { recursive: true })
}

export function folderPath(dir: string, step: number): string {
  return join(dir, folderName(step))
}

export function folderName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`
}

/** `mkdir -p`. Node's own never returns where a folder refuses new ones with ENOENT, as /proc does. */
async function makeFolder(path: string): Promise<void> {
  if (await isFolder(path)) return
  if (dirname(path) !== path) await makeFolder(dirname(path))
  try {
    await mkdir(path)
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error
    if (await isFolder(path)) return
    // A file is in the way: what Node's own says of that.
    throw Object.assign(new Error(`ENOTDIR: not a directory, mkdir '${path}'`), {
      code: 'ENOTDIR',
      syscall: 'mkdir',
    })
  }
}

export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false, // whatever it is, making one says it better
  )
}

/** Runs that died while saving left these: a temporary folder, or one whose replacement is in place. */
async function removeLeftovers(dir: string, ours: string): Promise<void> {
  const folders = await list(dir)
  for (const { name, final, kind, pid } of folders) {
    const path = join(dir, name)
    const abandoned = kind === 'tmp' && (path === ours || !isAlive(pid))
    const replaced = kind === 'old' && has(folders, final)
    if (abandoned || replaced) await rm(path, { recursive: true, force: true })
  }
}

async function list(dir: string): Promise<Folder[]> {
  const matches = (await readdir(dir)).map((name) => NAME.exec(name)).filter((match) => match !== null)
  return matches.map(({ 0: name, groups }) => {
    const { final, step, kind, pid } = groups as Record<string, string | undefined>
    return { name, final: final!, step: Number(step), kind, pid: Number(pid) }
  })
}

function has(folders: readonly Folder[], name: string): boolean {
  return folders.some((folder) => folder.name === name)
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    if (isSystemError(error, 'ESRCH')) return false
    if (isSystemError(error, 'EPERM')) return true // another user's
    throw error
  }
}
