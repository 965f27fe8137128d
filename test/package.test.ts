/**
 * What the package says of itself holds: all that it imports comes with it, and it is packed as it should be. That it installs
 * and trains is seen in package.slow.test.ts.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

describe('the package', () => {
  it('imports nothing that does not come with it, or that its user is asked for', () => {
    const { name, dependencies, optionalDependencies, peerDependencies } = manifest
    const known = [name, ...Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })]
    // Of types alone, which are in nobody's JavaScript.
    const types = ['kubernetes-types']
    const imported = new Set(['src', 'launcher'].flatMap((folder) => sourcesIn(folder).flatMap(packagesOf)))
    expect([...imported].filter((one) => !known.includes(one) && !types.includes(one))).toEqual([])
    expect(imported.size).toBeGreaterThan(10)
  })

  it('holds what runs, its types and its documents, and nothing else', () => {
    const pack = ['pack', '--dry-run', '--ignore-scripts', '--json']
    const listing = execFileSync('npm', pack, {
      cwd: ROOT,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [{ files }] = JSON.parse(listing)
    const paths: string[] = files.map(({ path }: { path: string }) => path)
    const expected =
      /^(package\.json|README\.md|LICENSE|docs\/.+\.(md|svg)|deploy\/.+|scripts\/link-tfjs-node\.mjs|dist\/(src|launcher)\/.+(\.js|\.d\.ts)|dist\/lib\/[\w-]+\.js(\.map)?)$/
    expect(paths).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist/src/index.d.ts']))
    expect(paths.filter((path) => !expected.test(path))).toEqual([])
  })
})

function sourcesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(ROOT, folder, name))
}

const IMPORTS =
  /^(?:import|export|\}).* from '([^'.][^']*)'|^import '([^'.][^']*)'|\bimport\('([^'.][^']*)'\)/gm

/** The packages that a file imports, statically or when it is needed. */
function packagesOf(path: string): string[] {
  return [...readFileSync(path, 'utf8').matchAll(IMPORTS)]
    .map(([, from, effect, later]) => (from ?? effect ?? later)!)
    .filter((name) => !isBuiltin(name))
    .map((name) => name.split('/', name.startsWith('@') ? 2 : 1).join('/'))
}
