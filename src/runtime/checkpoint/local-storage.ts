/** Checkpoints in a directory of this machine: folders that appear whole, by a rename. */
import { join } from 'node:path'
import { readFrom, writeDurably } from './files.js'
import { createFolder, folderPath, listComplete, removeFolder } from './folders.js'
import type { Storage } from './storage.js'

export function localStorage(dir: string): Storage {
  return {
    pathOf: (step) => folderPath(dir, step),
    list: () => listComplete(dir),
    create: (step, fill) =>
      createFolder(dir, step, (folder) => fill((name, pieces) => writeDurably(join(folder, name), pieces))),
    read: (path, name, consume) => readFrom(join(path, name), consume),
    remove: removeFolder,
  }
}
