/** Checkpoints in a directory of this machine: folders that appear whole, by a rename. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openFile, readFrom, writeDurably } from './files.js'
import {
  abandonFolder,
  beginFolder,
  completeFolder,
  folderPath,
  isFolder,
  listComplete,
  removeFolder,
} from './folders.js'
import type { Storage } from './storage.js'

export function localStorage(dir: string): Storage {
  return {
    pathOf: (step) => folderPath(dir, step),
    list: () => listComplete(dir),
    begin: (step) => beginFolder(dir, step),
    sees: isFolder,
    write: (place, name, pieces) => writeDurably(join(place, name), pieces),
    discard: (place, name) => rm(join(place, name)),
    complete: completeFolder,
    abandon: abandonFolder,
    read: (path, name, consume) => readFrom(join(path, name), consume),
    open: (path, name, use) => openFile(join(path, name), use),
    remove: removeFolder,
  }
}
