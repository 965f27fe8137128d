/** Which copies of a package a project holds. It reads folders, and loads nothing. */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

export interface Copy {
  readonly directory: string
  readonly version: string
}

/** The copy that a file in `directory` would import; undefined where there is none. */
export function resolveCopy(name: string, directory: string): Copy | undefined {
  try {
    return readCopy(dirname(createRequire(join(directory, 'index.js')).resolve(`${name}/package.json`)))
  } catch {
    return undefined
  }
}

/** Every copy below `directory`'s node_modules, each once. */
export function allCopies(name: string, directory: string): Copy[] {
  const modules = join(directory, 'node_modules')
  const own = join(modules, name)
  const found = new Set(existsSync(join(own, 'package.json')) ? [realpathSync(own)] : [])
  for (const installed of installedIn(modules)) {
    for (const copy of allCopies(name, installed)) found.add(copy.directory)
  }
  return [...found].map(readCopy)
}

function readCopy(directory: string): Copy {
  const { version } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { version: string }
  return { directory, version }
}

/** Folders of packages; those that are links lead elsewhere and are not followed. */
function installedIn(modules: string): string[] {
  if (!existsSync(modules)) return []
  return readdirSync(modules, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .flatMap(({ name }) => {
      const path = join(modules, name)
      return name.startsWith('@') ? readdirSync(path).map((inner) => join(path, inner)) : [path]
    })
}
