/** Makes a checkpoint that needs no other ranks of one that many have written. One process, one tensor at a time. */
import { open, rename, rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { LockstepError } from '../../errors.js'
import { explainingReads, findCheckpoint, readCheckpoint, writeCheckpoint } from './checkpoints.js'
import { type Described, floatsOf, wholePart } from './parts.js'
import { piecesOf } from './pieces.js'
import { encodeHeader, type NamedTensor } from './safetensors.js'
import { readParts, verifyShards } from './shards.js'
import { DamagedError, explainingIo } from './storage.js'

const ALONE = { rank: 0, size: 1, among: 'this rank' }

/** `checkpoints/step-00000150`: that one; another directory: the newest in it. */
function whichOf(path: string): { readonly location: string; readonly step?: number } {
  const step = /^step-(\d{8,})$/.exec(basename(path))?.[1]
  return step === undefined ? { location: path } : { location: dirname(path), step: Number(step) }
}

/**
 * @param out `model.safetensors`: the weights alone, in one file; else a directory for a checkpoint of whole tensors
 * @returns what was read, and what was written. @throws LockstepError: no checkpoint, a damaged one, nowhere to write
 */
export async function consolidate(path: string, out: string): Promise<{ from: string; to: string }> {
  const { location, ...which } = whichOf(path)
  const refused = (why: string) =>
    new LockstepError(`cannot consolidate ${path}: ${why}; give a checkpoint, or a directory that holds some`)
  if (!out.endsWith('.safetensors')) {
    const found = await readCheckpoint(location, which)
    if (found === undefined) throw refused('there is no checkpoint')
    return { from: found.path, to: await writeCheckpoint(out, found) }
  }
  const found = await findCheckpoint(location, which)
  if (found === undefined) throw refused('there is no checkpoint')
  if ('model' in found) {
    const read = new Map(found.model.map((tensor) => [tensor.name, tensor]))
    await writeFile(out, found.model, async ({ name }) => read.get(name)!)
    return { from: found.path, to: out }
  }
  const { index } = found
  const model = index.tensors.filter(({ kind }) => kind === 'model')
  try {
    await explainingReads(found.path, () => verifyShards(location, found.path, found, ALONE))
    await writeFile(out, model, async ({ name, shape }) => {
      const tensor = { name, shape, data: new Float32Array(floatsOf(shape)) }
      const part = wholePart('model', tensor, ALONE)
      await explainingReads(found.path, () => readParts(location, found.path, index, [part]))
      return tensor
    })
  } catch (error) {
    if (error instanceof DamagedError) throw refused(`checkpoint ${found.path} is damaged (${error.message})`)
    throw error
  }
  return { from: found.path, to: out }
}

/** In place of what was there only when all of it is written. */
async function writeFile(
  path: string,
  tensors: readonly Described[],
  read: (tensor: Described) => Promise<NamedTensor>,
): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}`
  await explainingIo(
    `cannot write ${path}`,
    'give a file in a directory that can be written to',
    async () => {
      try {
        const file = await open(temporary, 'w')
        try {
          const sized = tensors.map(({ name, shape }) => ({
            name,
            shape,
            data: { byteLength: 4 * floatsOf(shape) },
          }))
          await file.writeFile(encodeHeader(sized))
          for (const tensor of tensors)
            for (const piece of piecesOf((await read(tensor)).data)) await file.writeFile(piece)
          await file.sync()
        } finally {
          await file.close()
        }
        await rename(temporary, path)
      } finally {
        await rm(temporary, { force: true })
      }
    },
  )
}
