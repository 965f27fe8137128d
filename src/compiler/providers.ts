/**
 * Which execution provider a machine can run on: asked of a session of one node, since onnxruntime tells of a missing
 * driver or library only when a session starts. It chooses; sessions run.
 */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { LockstepError } from '../errors.js'
import { loadOrt, type Provider } from './onnxruntime.js'
import { Session } from './session.js'

const starting = new Map<Provider, Promise<void>>()

/**
 * The provider to run on. `auto`: cuda where its libraries are installed and a device answers, else cpu; webgpu has to
 * be asked for, since a Vulkan driver may be one that computes on the cpu, slowly.
 * @throws LockstepError when the one asked for does not start: why, and what to do.
 */
export async function resolveProvider(wanted: Provider | 'auto'): Promise<Provider> {
  if (wanted !== 'auto') {
    await start(wanted)
    return wanted
  }
  if (!(await isInstalled('cuda'))) return 'cpu'
  return start('cuda').then(
    () => 'cuda',
    () => 'cpu',
  )
}

/** Asked once per process and provider. */
function start(provider: Provider): Promise<void> {
  const known = starting.get(provider) ?? probe(provider)
  starting.set(provider, known)
  return known
}

const mending = {
  cpu: 'reinstall onnxruntime-node',
  webgpu:
    "install a Vulkan driver of this machine's GPU and libvulkan1 (VK_DRIVER_FILES names drivers in unusual places)",
  cuda: 'it needs an NVIDIA GPU with its driver, CUDA 12 and cuDNN 9 on LD_LIBRARY_PATH',
} satisfies Record<Provider, string>

const CUDA_INSTALLER = 'ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js'

async function probe(provider: Provider): Promise<void> {
  if (!(await isInstalled(provider))) {
    const todo = provider === 'cuda' ? `fetch it with ${CUDA_INSTALLER}` : 'there is none for this platform'
    throw unavailable(provider, 'is not part of this onnxruntime-node', todo)
  }
  const value = (name: string) => ({ name, type: 'float32' as const, shape: [1] })
  const node = { op: 'Neg', inputs: ['x'], outputs: ['y'], attributes: {} }
  const graph = { nodes: [node], constants: [], inputs: [value('x')], outputs: [value('y')] }
  try {
    const session = await Session.create(graph, { threads: 1, provider })
    await session.release()
  } catch (cause) {
    throw unavailable(provider, `does not start (${reasonOf(cause as Error)})`, mending[provider], cause)
  }
}

/** CUDA's libraries are too large for npm: onnxruntime-node lists that provider also where they were not fetched. */
async function isInstalled(provider: Provider): Promise<boolean> {
  const { listSupportedBackends } = await loadOrt()
  const backend = listSupportedBackends().find(({ name }) => name === provider)
  if (backend === undefined || backend.bundled) return backend !== undefined
  const binaries = join(
    dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
    'bin',
  )
  return readdirSync(binaries).some((abi) =>
    existsSync(
      join(binaries, abi, process.platform, process.arch, `libonnxruntime_providers_${provider}.so`),
    ),
  )
}

function unavailable(provider: Provider, what: string, todo: string, cause?: unknown): LockstepError {
  return new LockstepError(
    `onnxruntime's ${provider} provider ${what}: ${todo}, or train with --engine onnx:cpu (ddp-launch doctor shows ` +
      'what this machine has)',
    { cause },
  )
}

/** Without the source lines of onnxruntime that its messages begin with. */
function reasonOf({ message }: Error): string {
  return message
    .trim()
    .split('\n')[0]!
    .replace(/^.* was false\. /, '')
    .replace(/\.$/, '')
}
