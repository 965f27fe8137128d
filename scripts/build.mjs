// Builds dist/: the WebAssembly kernels first (TypeScript imports what they generate), then types by TypeScript, and JavaScript.
import { spawnSync } from 'node:child_process'
import { chmodSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildKernels } from './build-kernels.mjs'
import { bundle } from './bundle.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsc = createRequire(import.meta.url).resolve('typescript/lib/tsc.js')

await buildKernels()
rmSync(join(root, 'dist'), { recursive: true, force: true })
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
})
if (status !== 0) process.exit(status ?? 1)
await bundle(join(root, 'dist'))
chmodSync(join(root, 'dist/launcher/main.js'), 0o755)
