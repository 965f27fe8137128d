// Makes the package's JavaScript: all of it in a few files of dist/lib, so that a rank reads five and not three hundred, which
// is half of its start; and, where src/ and launcher/ have modules that something starts or imports by their place, modules there
// that lead to dist/lib. Packages stay outside: a user's script and this one share TensorFlow.js. Beside each file lies a map to
// the sources' lines, for stacks that a rank ends with (src/runtime/environment/source-lines.ts).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { requireCommonJs } from './require-commonjs.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The door, the command, scripts and threads. */
const ENTRIES = [
  'src/index.ts',
  'src/bench/reference.ts',
  'src/bench/scaling-rank.ts',
  'src/collectives/worker.ts',
  'src/commands/consolidate.ts',
  'src/commands/plan.ts',
  'src/runtime/checkpoint/writer-thread.ts',
  'src/runtime/environment/rank-bootstrap.ts',
  'src/runtime/environment/store-process.ts',
  'src/runtime/probe.ts',
  'launcher/main.ts',
]

/** @param more further modules that are to be found at their places. */
export async function bundle(directory, more = []) {
  const entries = [...ENTRIES, ...more]
  const flat = (entry) => entry.replace(/\.ts$/, '').replaceAll('/', '-')
  const { metafile } = await build({
    ...{ absWorkingDir: root, outdir: join(directory, 'lib'), metafile: true, logLevel: 'warning' },
    entryPoints: Object.fromEntries(entries.map((entry) => [flat(entry), entry])),
    ...{ bundle: true, splitting: true, packages: 'external', chunkNames: '[name]-[hash]' },
    ...{ format: 'esm', platform: 'node', target: 'es2022', sourcemap: 'external', sourcesContent: false },
    plugins: [places],
  })
  for (const { entryPoint, exports } of Object.values(metafile.outputs)) {
    if (!entries.includes(entryPoint)) continue
    const file = join(directory, entryPoint.replace(/\.ts$/, '.js'))
    const target = posix.join(posix.relative(posix.dirname(entryPoint), 'lib'), `${flat(entryPoint)}.js`)
    const shebang = /^#!.*\n/.exec(readFileSync(join(root, entryPoint), 'utf8'))?.[0] ?? ''
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, `${shebang}${exports.length > 0 ? 'export * from' : 'import'} '${target}'\n`)
  }
  requireCommonJs(join(directory, 'lib'))
}

/** A module that asks where it is means its place in the sources: to find its neighbours. */
const places = {
  name: 'places',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8')
      if (!source.includes('import.meta.url')) return undefined
      const place = `../${relative(root, path).replaceAll('\\', '/').replace(/\.ts$/, '.js')}`
      const contents = source.replaceAll('import.meta.url', `new URL('${place}', import.meta.url).href`)
      return { contents, loader: 'ts' }
    })
  },
}
