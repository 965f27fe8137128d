/**
 * A YAML file -> options: `key: value` with the flags' names as keys. Errors name file, line and column. It refuses
 * keys that no flag has.
 */
import { readFileSync } from 'node:fs'
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import { LockstepError } from '../../src/errors.js'
import { nearest } from './nearest.js'
import { type Given, isOptionName, OPTION_NAMES, TABLE } from './table.js'

/** @throws LockstepError when the file cannot be read, is no YAML, or says something that no flag could. */
export function readConfigFile(path: string): Given {
  try {
    return parseConfig(readFileSync(path, 'utf8'), path)
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause
    throw new LockstepError(`--config ${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** @param path for errors only. */
export function parseConfig(text: string, path: string): Given {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const wrong = (offset: number, message: string) => {
    const { line, col } = lines.linePos(offset)
    return new LockstepError(`${path}:${line}:${col}: ${message}`)
  }
  const [error] = document.errors
  if (error) throw wrong(error.pos[0], error.message)
  const { contents } = document
  if (contents === null) return {}
  if (!isMap<Node, Node | null>(contents)) {
    throw wrong(contents.range[0], 'expected lines of the form "key: value", as in "nproc: 2"')
  }
  const entries = contents.items.map(({ key, value }) => {
    const name = isScalar(key) ? String(key.value) : ''
    const at = key.range?.[0] ?? 0
    if (!isOptionName(name)) throw wrong(at, unknownKey(name))
    const { form } = TABLE[name]
    const source = isScalar(value) && value.value !== null ? (value.source ?? String(value.value)) : undefined
    const read = source === undefined ? undefined : form.read(source)
    if (read === undefined) {
      const given = source === undefined ? 'has no plain value' : `is "${source}"`
      throw wrong(value?.range?.[0] ?? at, `${name} ${given}: expected ${form.expected}`)
    }
    return [name, read]
  })
  return Object.fromEntries(entries)
}

function unknownKey(name: string): string {
  const near = nearest(name, OPTION_NAMES)
  return near === undefined
    ? `unknown key "${name}": expected the name of a flag (see ddp-launch --help)`
    : `unknown key "${name}": did you mean ${near}?`
}
