/**
 * The package as its users have it, compiled from the source as it is now into a directory of its own: a launch takes a
 * quarter of what it takes from source, and nobody's dist/ is touched. As vitest's global setup: once for all tests.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'
import { requireCommonJs } from '../scripts/require-commonjs.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PACKAGE = {
  name: 'lockstep',
  version: '0.0.0',
  type: 'module',
  exports: { '.': './src/index.js', './package.json': './package.json' },
}
/** For TypeScript elsewhere that imports 'lockstep', by TSX_TSCONFIG_PATH. */
const TSCONFIG = { compilerOptions: { paths: { lockstep: ['./src/index.js'] } } }

/** @returns the launcher's file. Scripts in `directory` import the copy as 'lockstep'. */
export function compileInto(directory: string): string {
  mkdirSync(directory, { recursive: true })
  // Types are tsc's part: esbuild only takes them out, in a tenth of the time.
  buildSync({
    ...{ absWorkingDir: ROOT, entryPoints: sources(), outbase: ROOT, outdir: directory },
    ...{ format: 'esm', target: 'es2022', logLevel: 'warning' },
  })
  requireCommonJs(directory)
  writeFileSync(join(directory, 'package.json'), JSON.stringify(PACKAGE))
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(TSCONFIG))
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  cpSync(join(ROOT, 'test/launcher/fixtures'), join(directory, 'fixtures'), { recursive: true })
  return join(directory, 'launcher/main.js')
}

/** Ranks of collectives' tests, which tests start by the dozen. */
const RANK_PROCESSES = [
  'test/collectives/groups.ts',
  'test/collectives/rank-process.ts',
  'test/collectives/shared-memory/rank-process.ts',
]

/** All but what is compiled to WebAssembly. */
function sources(): string[] {
  const shipped = ['src', 'launcher'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => join(folder, name))
      .filter((path) => /(?<!\.d)\.ts$/.test(path) && !path.includes('/assembly/')),
  )
  return [...shipped, ...RANK_PROCESSES]
}

/** Where a module of this repository, by its path in it, has been compiled to. */
export function compiled(path: string): string {
  const launcher = process.env.TEST_LAUNCHER
  if (launcher === undefined) throw new Error('the source does not compile: esbuild has said why')
  return join(dirname(launcher), '..', path.replace(/\.ts$/, '.js'))
}

export default function setup(): () => void {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-compiled-'))
  try {
    process.env.TEST_LAUNCHER = compileInto(directory)
  } catch {
    // esbuild has said why. Tests that launch nothing go on.
  }
  return () => rmSync(directory, { recursive: true })
}
