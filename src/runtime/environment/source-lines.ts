/**
 * Places in the package's built files -> places in its sources, for the stacks that ranks end with. The maps are read only
 * then: Node would read them at every start. Where the sources run themselves there is nothing to do.
 */
import { readFileSync } from 'node:fs'
import { SourceMap } from 'node:module'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where scripts/bundle.mjs puts what it builds. */
const BUILT = fileURLToPath(new URL('../../../lib', import.meta.url))

/** A file as a stack names it, with line and column. */
const PLACE = /((?:file:\/\/)?\/[^\s():]+\.js):(\d+):(\d+)/g

export function withSourceLines(stack: string): string {
  const maps = new Map<string, SourceMap | undefined>()
  return stack.replaceAll(PLACE, (place, name: string, line: string, column: string) => {
    const file = name.startsWith('file:') ? fileURLToPath(name) : name
    if (!maps.has(file)) maps.set(file, mapOf(file))
    const entry = maps.get(file)?.findEntry(Number(line) - 1, Number(column) - 1)
    if (entry === undefined || !('originalSource' in entry)) return place
    const { originalSource, originalLine, originalColumn } = entry
    return `${resolve(BUILT, originalSource)}:${originalLine + 1}:${originalColumn + 1}`
  })
}

/** Undefined for files of others. */
function mapOf(file: string): SourceMap | undefined {
  if (dirname(file) !== BUILT) return undefined
  try {
    return new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8')))
  } catch {
    return undefined // whoever has deleted it reads built files
  }
}
