/**
 * Who may import whom. Reads every import statement of the repository, type-only ones too: a type from another room is
 * knowledge of that room. It refuses to look at what packages are used, except in models.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDERS = ['src', 'launcher', 'examples', 'bench', 'scripts', 'test']
const DOOR = 'src/index.ts'

/** What each room may import besides itself. Everything in src and launcher is in one of them. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  [DOOR]: ['src/'],
  'src/errors.ts': [],
  'src/collectives/': ['src/errors.ts'],
  'src/compiler/': ['src/errors.ts'],
  'src/data/': ['src/errors.ts'],
  'src/observe/': ['src/errors.ts'],
  'src/models/': [],
  'src/runtime/': ['src/collectives/', 'src/compiler/', 'src/data/', 'src/observe/', 'src/errors.ts'],
  // Scripts that the launcher starts as it starts a user's: they do what those do.
  'src/bench/': ['src/runtime/', 'src/models/', 'src/errors.ts'],
  'src/commands/': ['src/runtime/', 'src/observe/', 'src/errors.ts'],
  'launcher/': ['src/runtime/environment/', 'src/observe/', 'src/errors.ts'],
}
/** Tests and benchmarks may open any room; for what is built and shipped there are rules. */
const INSIDE = ['src/', 'launcher/']

type Sources = ReadonlyMap<string, string>

/** One line per import that breaks a rule, and one per import cycle. Paths are relative to the repository's root. */
function violations(sources: Sources): string[] {
  const graph = new Map([...sources].map(([path, text]) => [path, importsOf(path, text)]))
  const broken = [...graph].flatMap(([path, imports]) =>
    imports.flatMap((imported) => {
      const rule = brokenRule(path, imported)
      return rule === undefined ? [] : [`${path} imports ${imported}: ${rule}`]
    }),
  )
  return [...broken, ...cycles(graph)]
}

function brokenRule(path: string, imported: string): string | undefined {
  const inside = INSIDE.some((folder) => path.startsWith(folder))
  if (inside && (imported === DOOR || imported === 'lockstep')) return `nobody inside imports ${DOOR}`
  if (path.startsWith('src/models/') && isPackage(imported) && !imported.startsWith('@tensorflow/')) {
    return 'src/models/ may import only TensorFlow.js and itself'
  }
  const room = inside ? Object.keys(ROOMS).find((name) => path.startsWith(name)) : exampleOf(path)
  if (inside && room === undefined) return 'it is in no room; add one to test/rooms.test.ts'
  if (room === undefined || isPackage(imported)) return undefined
  const allowed = [room, ...(ROOMS[room] ?? [])]
  if (allowed.some((prefix) => imported.startsWith(prefix))) return undefined
  return `${room} may import only ${allowed.join(', ')}`
}

/** Each example is a room of its own, which knows the package by its name only. */
function exampleOf(path: string): string | undefined {
  return /^examples\/[^/]+\//.exec(path)?.[0]
}

/** Relative imports as paths of the repository, others as they are written. */
function importsOf(path: string, text: string): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => {
    if (isPackage(fileName)) return fileName
    const target = posix.join(posix.dirname(path), fileName)
    return /\.(mjs|ts|json)$/.test(target) ? target : `${target.replace(/\.js$/, '')}.ts`
  })
}

function isPackage(imported: string): boolean {
  return !imported.startsWith('.') && !FOLDERS.some((folder) => imported.startsWith(`${folder}/`))
}

/** Depth-first; each cycle once, from the file where it was entered. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, above: readonly string[]) => {
    const start = above.indexOf(path)
    if (start >= 0) found.push(`import cycle: ${[...above.slice(start), path].join(' -> ')}`)
    if (start >= 0 || done.has(path)) return
    for (const imported of graph.get(path) ?? []) visit(imported, [...above, path])
    done.add(path)
  }
  for (const path of graph.keys()) visit(path, [])
  return found
}

function readRepository(): Sources {
  const paths = FOLDERS.flatMap((folder) =>
    readdirSync(posix.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => posix.join(folder, name))
      .filter((path) => /\.(ts|mjs)$/.test(path) && !path.endsWith('.d.ts')),
  )
  return new Map(paths.map((path) => [path, readFileSync(posix.join(ROOT, path), 'utf8')]))
}

describe('rooms', () => {
  it('are imported only by those who may', () => {
    const sources = readRepository()
    expect(sources.size).toBeGreaterThan(100)
    expect(violations(sources)).toEqual([])
  })

  const broken: Record<string, [sources: Record<string, string>, message: string]> = {
    'a room that imports another': [
      { 'src/data/idx.ts': "export { ring } from '../collectives/ring.js'" },
      'src/data/idx.ts imports src/collectives/ring.ts: src/data/ may import only src/data/, src/errors.ts',
    ],
    'a type of another room': [
      { 'src/compiler/trace.ts': "import type { World } from '../runtime/world.js'" },
      'src/compiler/trace.ts imports src/runtime/world.ts: src/compiler/ may import only src/compiler/, src/errors.ts',
    ],
    'a dynamic import': [
      { 'launcher/main.ts': "await import('../src/runtime/ddp.js')" },
      'launcher/main.ts imports src/runtime/ddp.ts: launcher/ may import only launcher/, ' +
        'src/runtime/environment/, src/observe/, src/errors.ts',
    ],
    'the door from inside': [
      { 'src/runtime/ddp.ts': "import { init } from '../index.js'" },
      'src/runtime/ddp.ts imports src/index.ts: nobody inside imports src/index.ts',
    ],
    'the door by its name': [
      { 'launcher/main.ts': "import { init } from 'lockstep'" },
      'launcher/main.ts imports lockstep: nobody inside imports src/index.ts',
    ],
    'an example that reaches inside': [
      { 'examples/mnist/train.ts': "import { add } from '../../src/collectives/kernels/kernels.js'" },
      'examples/mnist/train.ts imports src/collectives/kernels/kernels.ts: examples/mnist/ may import only examples/mnist/',
    ],
    'a model with more than TensorFlow.js': [
      { 'src/models/gpt.ts': "import { readFileSync } from 'node:fs'" },
      'src/models/gpt.ts imports node:fs: src/models/ may import only TensorFlow.js and itself',
    ],
    'a room without a rule': [
      { 'src/cellar/wine.ts': "import '../errors.js'" },
      'src/cellar/wine.ts imports src/errors.ts: it is in no room; add one to test/rooms.test.ts',
    ],
    'a cycle': [
      {
        'src/data/a.ts': "import type { B } from './b.js'",
        'src/data/b.ts': "import { c } from './c.js'",
        'src/data/c.ts': "import { a } from './a.js'",
      },
      'import cycle: src/data/a.ts -> src/data/b.ts -> src/data/c.ts -> src/data/a.ts',
    ],
  }
  it.each(Object.entries(broken))('finds %s', (_name, [sources, message]) => {
    expect(violations(new Map(Object.entries(sources)))).toEqual([message])
  })
})
