// Compiles every room's AssemblyScript kernels (src/**/assembly/index.ts) and writes each next to its room as
// wasm.generated.ts: the bytes in base64, so that sources, dist and the packed tarball load them the same way.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

const root = fileURLToPath(new URL('..', import.meta.url))
// The kernels own no memory: they work on whichever one is imported. Relaxed SIMD does not compile on Node 20.
const flags = '--runtime stub --enable simd,bulk-memory --importMemory --noExportMemory -O3'.split(' ')

/** Compiles all kernels; throws an Error with the compiler's own message when one does not compile. */
export async function buildKernels() {
  const entries = readdirSync(join(root, 'src'), { recursive: true })
    .map((path) => join('src', path))
    .filter((path) => path.endsWith(join('assembly', 'index.ts')))
  for (const entry of entries) {
    const bytes = await compile(entry)
    const output = join(dirname(dirname(entry)), 'wasm.generated.ts')
    const base64 = Buffer.from(bytes).toString('base64')
    const source = `// Made from assembly/ by scripts/build-kernels.mjs.\nexport const wasm: string =\n  '${base64}'\n`
    // Only when it changed: somebody may be reading it, such as a test running beside the one that builds.
    if (readOptional(join(root, output)) === source) continue
    writeFileSync(join(root, output), source)
    console.log(`${entry} -> ${output} (${bytes.length} bytes of WebAssembly)`)
  }
}

async function compile(entry) {
  let bytes
  const { error, stderr } = await asc.main([entry, '--outFile', 'kernels.wasm', ...flags], {
    readFile: (name) => readOptional(join(root, name)),
    writeFile: (_name, contents) => {
      bytes = contents
    },
    listFiles: () => [],
  })
  if (error) throw new Error(`${entry} does not compile:\n${stderr.toString()}`, { cause: error })
  return bytes
}

/** The compiler probes several places for each import: a file that is not there is its answer, not an error. */
function readOptional(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null
    throw error
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildKernels()
