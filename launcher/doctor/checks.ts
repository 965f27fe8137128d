/**
 * What training needs of a machine and a project, one row each: what is there, and the command that mends what is not.
 * It refuses to change anything.
 */
import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { freemem, totalmem } from 'node:os'
import { dirname, join, relative } from 'node:path'
import type { Machine } from '../devices.js'
import { allCopies, resolveCopy } from './packages.js'

export interface Finding {
  /** `missing`: training cannot run. `absent`: it can, without that. */
  readonly state: 'ok' | 'absent' | 'missing'
  readonly found: string
  /** One command. */
  readonly mend?: string
}

export interface Place {
  readonly machine: Machine
  /** The project's folder. */
  readonly directory: string
}

type Check = (place: Place) => Finding | Promise<Finding>

const NODE = 20
const TFJS = '4.22.0'
const PARTS = ['tfjs-core', 'tfjs-layers', 'tfjs-backend-cpu'].map((part) => `@tensorflow/${part}`)
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json'

const here = createRequire(import.meta.url)
const isSource = import.meta.url.endsWith('.ts')

export const checks: Readonly<Record<string, Check>> = {
  Node: () => {
    const isNew = Number(process.versions.node.split('.')[0]) >= NODE
    return isNew
      ? { state: 'ok', found: process.version }
      : { state: 'missing', found: `${process.version}, older than ${NODE}`, mend: 'nvm install 22' }
  },
  cores: ({ machine }) => ({
    state: 'ok',
    found: `${machine.cores} usable, ${gibibytes(freemem())} of ${gibibytes(totalmem())} GiB memory free`,
  }),
  'TensorFlow.js': ({ directory }) => tensorflow(directory),
  onnxruntime: () =>
    probed('cpu', {
      state: 'missing',
      mend: 'ONNXRUNTIME_NODE_INSTALL=skip npm install onnxruntime-node',
    }),
  'shared memory': () => probed('shared memory', { state: 'absent', mend: 'npm install koffi' }),
  CUDA: async ({ machine, directory }) => {
    if (machine.gpus.length === 0) return { state: 'absent', found: 'no NVIDIA GPU is visible' }
    const script = join(rootOf('onnxruntime-node'), 'script/install.js')
    const finding = await probed('cuda', {
      state: 'absent',
      mend: `ONNXRUNTIME_NODE_INSTALL=cuda12 node ${relative(directory, script)}`,
    })
    return { ...finding, found: `GPUs ${machine.gpus.join(', ')}: ${finding.found}` }
  },
  WebGPU: ({ machine }) => {
    const driver = machine.gpus.length > 0 ? 'mesa-vulkan-drivers' : 'chromium-common'
    // Without a GPU: a Vulkan driver that computes on the cpu, good for tests.
    const variable = machine.gpus.length > 0 ? '' : `, then VK_DRIVER_FILES=${SWIFTSHADER}`
    const mend = `sudo apt-get install libvulkan1 ${driver}${variable}`
    return probed('webgpu', { state: 'absent', ...(process.platform === 'linux' && { mend }) })
  },
  'tfjs-node': ({ directory }) => tfjsNode(directory),
}

/** The project's parts of TensorFlow.js, which must be those that Lockstep imports. */
function tensorflow(directory: string): Finding {
  const lockstep = dirname(here.resolve('lockstep/package.json'))
  const parts = PARTS.map((name) => ({
    name,
    ours: resolveCopy(name, lockstep),
    theirs: resolveCopy(name, directory),
    all: allCopies(name, directory),
  }))
  const absent = parts.filter(({ ours }) => ours === undefined).map(({ name }) => name)
  if (absent.length > 0) {
    const mend = `npm install ${absent.map((name) => `${name}@${TFJS}`).join(' ')}`
    return { state: 'missing', found: `${absent.join(', ')} not installed`, mend }
  }
  const other = parts.find(({ ours, theirs }) => theirs && theirs.directory !== ours!.directory)
  if (other !== undefined) {
    const copies = `${other.theirs!.version} for the project, ${other.ours!.version} for Lockstep`
    return { state: 'missing', found: `two copies of ${other.name}: ${copies}`, mend: 'npm dedupe' }
  }
  const found = parts
    .map(({ name, ours }) => `${name.slice(name.indexOf('/') + 1)} ${ours!.version}`)
    .join(', ')
  const many = parts.find(({ all }) => all.length > 1)
  if (many === undefined) return { state: 'ok', found }
  const places = many.all.map((copy) => relative(directory, copy.directory)).join(', ')
  return { state: 'ok', found: `${found}; more than one ${many.name}: ${places}`, mend: 'npm dedupe' }
}

/** Optional: what makes the eager engine fast. */
async function tfjsNode(directory: string): Promise<Finding> {
  const name = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'].find((n) => resolveCopy(n, directory))
  if (name === undefined) return { state: 'absent', found: 'not installed (only --engine tfjs would use it)' }
  const { version } = resolveCopy(name, directory)!
  const loaded = await run(['-e', `require(${JSON.stringify(name)})`], directory)
  if (loaded !== undefined) return { state: 'ok', found: `${name} ${version}` }
  const script = join(dirname(here.resolve('lockstep/package.json')), 'scripts/link-tfjs-node.mjs')
  const mend = `node ${relative(directory, script)} --package ${relative(directory, resolveCopy(name, directory)!.directory)}`
  return { state: 'absent', found: `${name} ${version} does not load: its addon is not built`, mend }
}

/** What a process of its own finds when it tries. @param otherwise when it does not work */
async function probed(name: string, otherwise: Omit<Finding, 'found'>): Promise<Finding> {
  const script = here.resolve(`../../src/runtime/probe.${isSource ? 'ts' : 'js'}`)
  const loader = isSource ? ['--import', import.meta.resolve('tsx')] : []
  const printed = await run([...loader, script, name], process.cwd())
  if (printed === undefined) return { ...otherwise, found: 'the process that tried it crashed' }
  const { works, found } = JSON.parse(printed) as { works: boolean; found: string }
  return works ? { state: 'ok', found } : { ...otherwise, found }
}

/** What node prints; undefined when it fails. */
function run(args: readonly string[], cwd: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd, timeout: 60_000 }, (error, stdout) =>
      resolve(error === null ? stdout : undefined),
    )
  })
}

function rootOf(name: string): string {
  return dirname(here.resolve(`${name}/package.json`))
}

const gibibytes = (bytes: number): number => Math.round(bytes / 2 ** 30)
