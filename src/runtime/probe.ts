/**
 * `node probe.js NAME` tries one thing that this machine may lack and prints what it found, as JSON: for `ddp-launch
 * doctor`, in a process of its own since a broken native library can end one.
 */
import { closeSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Provider } from '../compiler/onnxruntime.js'
import { resolveProvider } from '../compiler/providers.js'

export interface Probed {
  readonly works: boolean
  /** What works, or why it does not. */
  readonly found: string
}

async function provider(name: Provider): Promise<string> {
  await resolveProvider(name)
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string }
  return `onnxruntime-node ${version}`
}

const probes: Readonly<Record<string, () => Promise<string>>> = {
  cpu: () => provider('cpu'),
  webgpu: () => provider('webgpu'),
  cuda: () => provider('cuda'),
  'shared memory': async () => {
    const { loadSystem } = await import('../collectives/shared-memory/system.js')
    closeSync((await loadSystem()).createFile(1 << 20))
    return 'memfd, mmap and futex through koffi'
  },
}

const probe = probes[process.argv[2] ?? '']
const probed: Probed = await (probe?.() ?? Promise.reject(new Error('no such probe'))).then(
  (found) => ({ works: true, found }),
  (error: Error) => ({
    works: false,
    found: error.message.split('\n')[0]!.replace(/, or train with .*/, ''),
  }),
)
process.stdout.write(JSON.stringify(probed), () => process.exit())
