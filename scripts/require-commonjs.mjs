// Lets what esbuild has written load CommonJS packages by require. Imported as modules, Node compiles
// each a second time to tell which kind it is, and parses it for the names of its exports: a third of a rank's start went
// into that, most of it for TensorFlow.js. (TypeScript's `import x = require()` is the same, but nothing that runs the source
// directly has it.)
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const PACKAGES =
  '@tensorflow/tfjs-core|@tensorflow/tfjs-layers|@tensorflow/tfjs-backend-cpu|prom-client|protobufjs|ws'
const IMPORT = new RegExp(`^import (?:\\* as (\\w+)|(\\w+)|(\\{[^}]*\\})) from ['"](${PACKAGES})['"];$`, 'gm')
const EFFECT = new RegExp(`^import ['"](${PACKAGES})['"];$`, 'gm')

/** Rewrites all JavaScript in `directory`. A line stays a line, for stacks that name it. */
export function requireCommonJs(directory) {
  for (const name of readdirSync(directory, { recursive: true })) {
    if (!name.endsWith('.js')) continue
    const path = join(directory, name)
    const source = readFileSync(path, 'utf8')
    const rewritten = rewrite(source)
    if (rewritten !== source) writeFileSync(path, rewritten)
  }
}

/** Exported for its test. */
export function rewrite(source) {
  const required = source
    .replace(IMPORT, (_, namespace, whole, names, name) => {
      return `const ${namespace ?? whole ?? names.replaceAll(' as ', ': ')} = packageRequire('${name}');`
    })
    .replace(EFFECT, "packageRequire('$1');")
  if (required === source) return source
  const shebang = /^#!.*\n/.exec(required)?.[0] ?? ''
  const head =
    "import { createRequire as makeRequire } from 'node:module'; const packageRequire = makeRequire(import.meta.url); "
  return shebang + head + required.slice(shebang.length)
}
