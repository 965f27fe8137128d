/**
 * Checkpoints on disk: a folder `step-00000150` each, complete or not there at all (docs/checkpoint-format.md).
 * Refuses to know models and ranks: one process writes, and one reads.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LockstepError } from '../../errors.js'
import { explainingIo, isSystemError, readTensors, writeDurably, writeTensors } from './files.js'
import { createFolder, folderPath, listComplete } from './folders.js'
import type { NamedTensor } from './safetensors.js'

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
}

const FORMAT = 'lockstep-checkpoint'
const VERSION = 1
const MODEL = 'model.safetensors'
const OPTIMIZER = 'optimizer.safetensors'
const STATE = 'state.json'
const SUMS = 'SHA256SUMS'

/**
 * Writes `dir/step-<step>` under a temporary name, flushes it, and renames it: a crash at any moment leaves the
 * checkpoints that were there, and this one or nothing. Temporary folders of dead processes are removed.
 * @returns the folder's path.
 * @throws LockstepError naming the path and the cause when it cannot be written; nothing of it is left then.
 */
export function writeCheckpoint(dir: string, checkpoint: Checkpoint): Promise<string> {
  const { step, model, optimizer, state } = checkpoint
  const context = `cannot write checkpoint ${folderPath(dir, step)}`
  return explainingIo(context, 'give a directory that this process may write to, on a disk with room', () =>
    createFolder(dir, step, async (folder) => {
      const text = `${JSON.stringify({ format: FORMAT, version: VERSION, step, state }, undefined, 2)}\n`
      const sums = [
        [await writeTensors(join(folder, MODEL), model), MODEL],
        [await writeTensors(join(folder, OPTIMIZER), optimizer), OPTIMIZER],
        [await writeDurably(join(folder, STATE), [Buffer.from(text)]), STATE],
      ]
      const lines = sums.map((sum) => `${sum.join('  ')}\n`).join('')
      await writeDurably(join(folder, SUMS), [Buffer.from(lines)])
    }),
  )
}

/**
 * The checkpoint of the highest step in `dir`, every checksum verified, and its path; undefined when `dir` holds none.
 * @throws LockstepError when `dir` cannot be read or that checkpoint is damaged: names the file, what was found, what
 *   was expected, and the folder to delete in order to resume from the one before.
 */
export async function readLatestCheckpoint(
  dir: string,
): Promise<(Checkpoint & { path: string }) | undefined> {
  const advice = 'give a directory that holds checkpoints, or a new one'
  const [path, previous] = await explainingIo(`cannot read checkpoints in ${dir}`, advice, () =>
    listComplete(dir),
  )
  if (path === undefined) return undefined
  try {
    return { path, ...(await readCheckpoint(path)) }
  } catch (cause) {
    const incomplete = cause instanceof LockstepError || isSystemError(cause, 'ENOENT')
    if (!incomplete && !isSystemError(cause)) throw cause
    const fallback = previous ? `resume from ${previous}` : 'start from the beginning'
    const mend = incomplete ? `delete that folder to ${fallback}` : 'see that this process can read it'
    throw new LockstepError(`cannot resume from checkpoint ${path}: ${cause.message}; ${mend}`, { cause })
  }
}

async function readCheckpoint(path: string): Promise<Checkpoint> {
  const sums = parseSums(await readFile(join(path, SUMS), 'utf8'), join(path, SUMS))
  const verify = (name: string, sha256: string) => {
    if (sha256 === sums.get(name)) return
    throw new LockstepError(`${join(path, name)} has SHA-256 ${sha256}, expected ${sums.get(name)}`)
  }
  const text = await readFile(join(path, STATE))
  verify(STATE, createHash('sha256').update(text).digest('hex'))
  const { step, state } = parseState(text.toString(), join(path, STATE))
  const model = await readTensors(join(path, MODEL))
  verify(MODEL, model.sha256)
  const optimizer = await readTensors(join(path, OPTIMIZER))
  verify(OPTIMIZER, optimizer.sha256)
  return { step, state, model: model.tensors, optimizer: optimizer.tensors }
}

function parseState(text: string, path: string): Pick<Checkpoint, 'step' | 'state'> {
  const { format, version, step, state } = JSON.parse(text)
  if (format !== FORMAT || version !== VERSION) {
    throw new LockstepError(
      `${path} says ${format} version ${version}, expected ${FORMAT} version ${VERSION}`,
    )
  }
  return { step, state }
}

/** The format of sha256sum(1): hex, two spaces, name. */
function parseSums(text: string, path: string): Map<string, string> {
  const sums = new Map([...text.matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(([, sum, name]) => [name!, sum!]))
  for (const name of [MODEL, OPTIMIZER, STATE]) {
    if (!sums.has(name)) throw new LockstepError(`${path} has no line for ${name}`)
  }
  return sums
}
