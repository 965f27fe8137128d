/**
 * What a job for a cluster is made of, out of the command line that would have launched it here: how many nodes and ranks,
 * and the flags that every node's ddp-launch gets. Pure. It refuses to know any cluster.
 */
import { basename, extname } from 'node:path'
import { LockstepError } from '../../src/errors.js'
import type { CommandLine } from '../options/arguments.js'
import { isOptionName, TABLE } from '../options/table.js'

export interface Job {
  /** Of lower-case letters, digits and "-", as clusters like it. */
  readonly name: string
  readonly nodes: number
  readonly nproc: number
  /** Cores per node, where that is said. */
  readonly cores: number | undefined
  /** One per rank where an engine needs them. */
  readonly gpus: number
  readonly port: number | undefined
  /** Until a node may be killed that was asked to end. */
  readonly graceSeconds: number
  readonly tokenFile: string | undefined
  /** Flags of each node's ddp-launch, as they were given, but for those above that say where it is. */
  readonly flags: readonly string[]
  readonly script: string
  readonly scriptArguments: readonly string[]
}

/** What ranks write last, and logs. */
const GRACE_SECONDS = 30
/** What the job itself says, or the cluster. */
const SAID = ['nnodes', 'token-file', 'master-port']
const OWN = ['node-rank', 'rdzv-endpoint', 'master-addr', 'local-addr', 'standalone']

/**
 * @param tokens the command line up to the script.
 * @throws LockstepError for what only a launch on known machines can have.
 */
export function describeJob({ given, script, scriptArguments }: CommandLine, tokens: readonly string[]): Job {
  const nproc = given.nproc ?? given['nproc-per-node'] ?? 1
  if (typeof nproc !== 'number')
    throw new LockstepError(`generate: --nproc ${nproc} is unknown before the job runs: expected a number`)
  const { min, max } = given.nnodes ?? { min: 1, max: 1 }
  if (min !== max)
    throw new LockstepError(`generate: --nnodes ${min}:${max}: expected one number, the nodes to ask for`)
  const flags = readFlags(tokens)
  const own = flags.find(({ name }) => OWN.includes(name))
  if (own) throw new LockstepError(`generate: --${own.name} cannot be used: the job finds that out itself`)
  const needsGpu = given.engine === 'onnx:cuda' || given.engine === 'onnx:webgpu'
  return {
    name: plainName(given['rdzv-id'] ?? basename(script, extname(script))),
    nodes: max,
    nproc,
    cores: given.threads === undefined ? undefined : given.threads * nproc,
    gpus: needsGpu ? nproc : 0,
    port: given['master-port'],
    graceSeconds: (given['stop-timeout'] ?? GRACE_SECONDS) + GRACE_SECONDS,
    tokenFile: given['token-file'],
    flags: flags.filter(({ name }) => !SAID.includes(name)).flatMap(({ words }) => words),
    script,
    scriptArguments,
  }
}

/** A command line of options as its options: `--nproc 2`, `--nproc=2`, `--standalone`. */
export function readFlags(tokens: readonly string[]): { name: string; words: readonly string[] }[] {
  const flags = []
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!
    if (token === '--') continue
    const name = token.slice(2).split('=', 1)[0]!
    const isAlone = token.includes('=') || (isOptionName(name) && TABLE[name].value === undefined)
    flags.push({ name, words: isAlone ? [token] : [token, tokens[++i] ?? ''] })
  }
  return flags
}

/** A word for a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function plainName(text: string): string {
  const plain = text.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  return (
    plain
      .replace(/^[^a-z]+/, '')
      .slice(0, 40)
      .replace(/-+$/, '') || 'lockstep'
  )
}
