/**
 * What was given on the command line, in the environment and in a config file, and what a cluster adds -> the settings
 * of a launch: who wins, what is assumed, and what does not go together. Pure.
 */
import { LockstepError } from '../../src/errors.js'
import { DEFAULT_PORT } from '../../src/runtime/environment/clusters/placement.js'
import { type TlsSetting, tlsSetting } from '../../src/runtime/environment/tls.js'
import {
  DEFAULT_ADDRESS,
  DEFAULT_TIMEOUT_SECONDS,
  type EngineSetting,
  type Transport,
} from '../../src/runtime/environment/variables.js'
import { place } from '../clusters/place.js'
import type { CommandLine } from './arguments.js'
import { readVariables } from './environment-options.js'
import type { HostPort, NodeCount, RankCount, StreamsByRank } from './forms.js'
import type { Given } from './table.js'

export interface Settings {
  readonly nproc: RankCount
  /** Intra-op threads of each rank; undefined: the cores divided among the ranks. */
  readonly threads: number | undefined
  /** How long ranks wait for each other. */
  readonly timeoutSeconds: number
  /** How ranks exchange numbers. */
  readonly transport: Transport
  /** What computes; undefined: what the script says. */
  readonly engine: EngineSetting | undefined
  /** Where ranks write profiles; undefined: as the script says. */
  readonly profile: string | undefined
  /** Where rank 0 writes the timeline; undefined: none. */
  readonly timeline: string | undefined
  /** Where metrics are served; undefined: ranks keep none. */
  readonly metrics: HostPort | undefined
  readonly script: string
  /** The script's own, untouched. */
  readonly scriptArguments: readonly string[]

  readonly nodes: NodeCount
  readonly nodeRank: number | undefined
  /** Where launchers meet, or, for a job on one node, where its store listens; undefined: wherever there is room. */
  readonly endpoint: HostPort | undefined
  readonly localAddress: string | undefined
  readonly jobName: string | undefined
  readonly meetSeconds: number
  readonly lastCallSeconds: number
  readonly tokenFile: string | undefined
  /** How nodes encrypt what they say to each other; undefined: they do not. */
  readonly tls: TlsSetting | undefined

  readonly maxRestarts: number
  readonly monitorSeconds: number
  readonly stopSeconds: number

  readonly logDirectory: string | undefined
  /** To files and not to the screen. */
  readonly redirects: StreamsByRank
  /** To files and to the screen. */
  readonly tee: StreamsByRank
  /** Local ranks that the screen shows; undefined: all. */
  readonly shown: ReadonlySet<number> | undefined
}

const NONE: StreamsByRank = { named: new Map(), others: { stdout: false, stderr: false } }
const ALL: StreamsByRank = { named: new Map(), others: { stdout: true, stderr: true } }

/** @throws LockstepError in one line for what no launch can be made of. */
export function readSettings(commandLine: CommandLine, env: NodeJS.ProcessEnv, file: Given): Settings {
  const sources = [commandLine.given, readVariables(env), file]
  for (const source of sources) refuseTwoNames(source)
  const given = place(merge(sources), env)
  refuseUnfiled(given)
  if (given['metrics-addr'] !== undefined && given['metrics-port'] === undefined)
    throw new LockstepError('--metrics-addr needs --metrics-port PORT, 0 for any that is free')

  const nodes = given.standalone ? { min: 1, max: 1 } : (given.nnodes ?? { min: 1, max: 1 })
  const endpoint = given.standalone ? undefined : findEndpoint(given)
  const nodeRank = given.standalone ? undefined : given['node-rank']
  checkNodes(nodes, nodeRank, endpoint)
  const tls = tlsSetting(given)
  return {
    nproc: given.nproc ?? given['nproc-per-node'] ?? 1,
    threads: given.threads,
    timeoutSeconds: given.timeout ?? DEFAULT_TIMEOUT_SECONDS,
    transport: given.transport ?? 'auto',
    engine: given.engine,
    profile: given.profile,
    timeline: given.timeline,
    metrics: metricsOf(given),
    script: commandLine.script,
    scriptArguments: commandLine.scriptArguments,
    nodes,
    nodeRank,
    endpoint,
    localAddress: given['local-addr'],
    jobName: given['rdzv-id'],
    meetSeconds: given['rdzv-timeout'] ?? 600,
    lastCallSeconds: given['rdzv-last-call'] ?? 30,
    tokenFile: given['token-file'],
    // What one node says to itself leaves it nowhere.
    tls: nodes.max === 1 ? undefined : tls,
    maxRestarts: given['max-restarts'] ?? 0,
    monitorSeconds: given['monitor-interval'] ?? 2,
    stopSeconds: given['stop-timeout'] ?? 30,
    logDirectory: given['log-dir'],
    redirects: given.redirects ?? NONE,
    // Who asks for a directory and says no more wants it all.
    tee: given.tee ?? (given.redirects === undefined && given['log-dir'] !== undefined ? ALL : NONE),
    shown: given['local-ranks-filter'],
  }
}

/** The first source that has an option gives it; two names of one option are one option. */
function merge(sources: readonly Given[]): Given {
  let merged: Given = {}
  for (const source of sources) {
    const { nproc, 'nproc-per-node': perNode, 'rdzv-endpoint': endpoint, ...others } = source
    const count = nproc ?? perNode
    const isPlaced = (merged['master-addr'] ?? merged['master-port']) !== undefined
    merged = {
      ...others,
      ...(count === undefined ? {} : { nproc: count }),
      ...(endpoint === undefined || isPlaced ? {} : { 'rdzv-endpoint': endpoint }),
      ...merged,
    }
  }
  return merged
}

function refuseTwoNames(given: Given): void {
  if (given.nproc !== undefined && given['nproc-per-node'] !== undefined)
    throw new LockstepError('nproc cannot be used with nproc-per-node: they are one option, give one of them')
  if (given['rdzv-endpoint'] && (given['master-addr'] ?? given['master-port']) !== undefined) {
    throw new LockstepError(
      'rdzv-endpoint cannot be used with master-addr or master-port: they say the same, give one of them',
    )
  }
}

function metricsOf({ 'metrics-addr': host = DEFAULT_ADDRESS, 'metrics-port': port }: Given) {
  return port === undefined ? undefined : { host, port }
}

function refuseUnfiled(given: Given): void {
  const name = given.redirects ? 'redirects' : 'tee'
  if (given[name] && given['log-dir'] === undefined)
    throw new LockstepError(`--${name} needs --log-dir DIR, the directory for the files`)
}

function findEndpoint(given: Given): HostPort | undefined {
  if (given['rdzv-endpoint']) return given['rdzv-endpoint']
  const { 'master-addr': host, 'master-port': port } = given
  if (host === undefined && port === undefined) return undefined
  return { host: host ?? '127.0.0.1', port: port ?? DEFAULT_PORT }
}

function checkNodes(nodes: NodeCount, nodeRank: number | undefined, endpoint: HostPort | undefined): void {
  if (nodeRank !== undefined && nodeRank >= nodes.max) {
    throw new LockstepError(
      `--node-rank ${nodeRank} with --nnodes ${nodes.max}: expected a node rank from 0 to ${nodes.max - 1}`,
    )
  }
  if (nodes.max === 1) return
  if (endpoint === undefined) {
    throw new LockstepError(
      `--nnodes ${nodes.max} needs --rdzv-endpoint HOST:PORT, an address of one node that all nodes reach`,
    )
  }
  if (endpoint.port === 0)
    throw new LockstepError('--rdzv-endpoint with port 0: expected a port that all nodes know')
  if (['0.0.0.0', '::'].includes(endpoint.host)) {
    throw new LockstepError(
      `--rdzv-endpoint ${endpoint.host}: expected an address at which the other nodes reach that node`,
    )
  }
}
