/**
 * The package as its users have it, compiled from the source as it is now into a directory of its own: a launch takes a
 * quarter of what it takes from source, and nobody's dist/ is touched. As vitest's global setup: once for all tests.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundle } from '../scripts/bundle.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PACKAGE = {
  name: 'lockstep',
  version: '0.0.0',
  type: 'module',
  exports: { '.': './src/index.js', './package.json': './package.json' },
}
/** For TypeScript elsewhere that imports 'lockstep', by TSX_TSCONFIG_PATH. */
const TSCONFIG = { compilerOptions: { paths: { lockstep: ['./src/index.js'] } } }

/** What tests start beside it, or load into what they start. */
const OF_TESTS = [
  'test/collectives/rank-process.ts',
  'test/collectives/shared-memory/rank-process.ts',
  'test/examples/says-its-hash.ts',
]

/**
 * Scripts in `directory` import the copy as 'lockstep'.
 * @param more modules that are to be found at their places, too. @returns the launcher's file.
 */
export async function compileInto(directory: string, more: readonly string[] = []): Promise<string> {
  mkdirSync(directory, { recursive: true })
  await bundle(directory, more)
  writeFileSync(join(directory, 'package.json'), JSON.stringify(PACKAGE))
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify(TSCONFIG))
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  cpSync(join(ROOT, 'test/launcher/fixtures'), join(directory, 'fixtures'), { recursive: true })
  return join(directory, 'launcher/main.js')
}

/** Where a module of this repository, by its path in it, has been compiled to. */
export function compiled(path: string): string {
  const launcher = process.env.TEST_LAUNCHER
  if (launcher === undefined) throw new Error('the source does not compile: esbuild has said why')
  return join(dirname(launcher), '..', path.replace(/\.ts$/, '.js'))
}

export default async function setup(): Promise<() => void> {
  const directory = mkdtempSync(join(tmpdir(), 'lockstep-compiled-'))
  try {
    process.env.TEST_LAUNCHER = await compileInto(directory, OF_TESTS)
  } catch {
    // esbuild has said why. Tests that launch nothing go on.
  }
  return () => rmSync(directory, { recursive: true })
}
