/**
 * Options and machine -> what to start: one command with its environment per rank. Pure: it refuses to touch
 * processes, files or the clock.
 */
import { extname } from 'node:path'
import { LockstepError } from '../src/errors.js'
import type { TlsSetting } from '../src/runtime/environment/tls.js'
import {
  ENGINE_VARIABLE,
  type EngineSetting,
  LAUNCHER_PID_VARIABLE,
  LIVE_VARIABLE,
  MAX_RESTARTS_VARIABLE,
  METRICS_FD_VARIABLE,
  PROFILE_VARIABLE,
  REPORT_FD_VARIABLE,
  RESTART_COUNT_VARIABLE,
  RUN_ID_VARIABLE,
  rankVariables,
  TIMELINE_VARIABLE,
  type Transport,
} from '../src/runtime/environment/variables.js'
import type { Machine } from './devices.js'
import type { HostPort, RankCount } from './options/forms.js'
import type { Assignment } from './rendezvous/messages.js'

/** What of the settings a plan is made of. */
export interface Wishes {
  readonly nproc: RankCount
  readonly threads: number | undefined
  readonly timeoutSeconds: number
  readonly transport: Transport
  readonly tls?: TlsSetting | undefined
  readonly engine?: EngineSetting | undefined
  readonly profile?: string | undefined
  readonly timeline?: string | undefined
  readonly metrics?: HostPort | undefined
  readonly script: string
  readonly scriptArguments: readonly string[]
}

/** What one node starts, in every attempt. */
export interface Plan {
  /** Ranks on this node. */
  readonly localWorldSize: number
  readonly threads: number
  readonly timeoutMs: number
  readonly transport: Transport
  readonly tls: TlsSetting | undefined
  readonly engine: EngineSetting | undefined
  readonly profile: string | undefined
  readonly timeline: string | undefined
  /** Whether ranks report metrics. */
  readonly metrics: boolean
  readonly gpus: readonly string[]
  /** All arguments of node. */
  readonly nodeArguments: readonly string[]
}

/** Modules that node loads before the script, as URLs. */
export interface Loaders {
  /** Makes node understand TypeScript. */
  readonly typescript: string
  readonly bootstrap: string
  /** What the script imports as 'lockstep', where that is this very package, compiled. */
  readonly lockstep: string | undefined
}

/** What the ranks of a node have in common in one attempt, besides the plan. */
export interface Meeting {
  readonly assignment: Assignment
  /** The secret of this attempt, hexadecimal. */
  readonly token: string
  readonly launcherPid: number
  /** Whether somebody watches the launcher's output on a terminal. */
  readonly live: boolean
}

/** The file descriptor on which a rank tells the launcher why it fails. */
export const REPORT_FD = 3
/** The one for its metrics. */
export const METRICS_FD = 4

const TYPESCRIPT = ['.ts', '.mts', '.cts', '.tsx']
const JAVASCRIPT = ['.js', '.mjs', '.cjs']

/** @throws LockstepError when the script is of another language, or GPUs are asked for and there are none. */
export function makePlan(options: Wishes, machine: Machine, loaders: Loaders): Plan {
  const localWorldSize = countRanks(options.nproc, machine)
  return {
    localWorldSize,
    threads: options.threads ?? Math.max(1, Math.floor(machine.cores / localWorldSize)),
    timeoutMs: options.timeoutSeconds * 1000,
    transport: options.transport,
    tls: options.tls,
    engine: options.engine,
    profile: options.profile,
    timeline: options.timeline,
    metrics: options.metrics !== undefined,
    gpus: machine.gpus,
    nodeArguments: [...nodeFlags(options.script, loaders), options.script, ...options.scriptArguments],
  }
}

/** The environment of one rank: the user's, with what makes it this rank. */
export function rankEnvironment(
  plan: Plan,
  localRank: number,
  { assignment, token, launcherPid, live }: Meeting,
  env: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv {
  const gpu = plan.gpus[localRank % plan.gpus.length]
  return {
    ...env,
    ...rankVariables({
      rank: assignment.firstRank + localRank,
      localRank,
      worldSize: assignment.worldSize,
      localWorldSize: plan.localWorldSize,
      groupRank: assignment.nodeRank,
      address: assignment.address,
      masterAddr: assignment.storeHost,
      masterPort: assignment.storePort,
      token,
      threads: plan.threads,
      timeoutMs: plan.timeoutMs,
      transport: plan.transport,
      tls: plan.tls,
    }),
    ...(plan.engine === undefined ? {} : { [ENGINE_VARIABLE]: plan.engine }),
    ...(plan.profile === undefined ? {} : { [PROFILE_VARIABLE]: plan.profile }),
    ...(plan.timeline === undefined ? {} : { [TIMELINE_VARIABLE]: plan.timeline }),
    ...(plan.metrics ? { [METRICS_FD_VARIABLE]: String(METRICS_FD) } : {}),
    [RESTART_COUNT_VARIABLE]: String(assignment.restarts),
    [MAX_RESTARTS_VARIABLE]: String(assignment.maxRestarts),
    [RUN_ID_VARIABLE]: assignment.runId,
    OMP_NUM_THREADS: env.OMP_NUM_THREADS || String(plan.threads),
    GLIBC_TUNABLES: tunables(env.GLIBC_TUNABLES),
    // tsx would leave its cache of translated files in /tmp.
    TSX_DISABLE_CACHE: env.TSX_DISABLE_CACHE ?? '1',
    ...(gpu === undefined ? {} : { CUDA_VISIBLE_DEVICES: gpu }),
    [LIVE_VARIABLE]: live ? '1' : '0',
    [REPORT_FD_VARIABLE]: String(REPORT_FD),
    [LAUNCHER_PID_VARIABLE]: String(launcherPid),
  }
}

/**
 * Malloc asks for huge pages, in which onnxruntime's activations lie: a step of the reference CNN and GPT takes some 6 % less time.
 * Where the C library is not glibc 2.35 or newer, nobody reads it.
 */
function tunables(given: string | undefined): string {
  const all = given ? given.split(':') : []
  const decided = all.some((each) => each.startsWith('glibc.malloc.hugetlb='))
  return [...all, ...(decided ? [] : ['glibc.malloc.hugetlb=1'])].join(':')
}

function countRanks(nproc: RankCount, { cores, gpus }: Machine): number {
  if (nproc === 'gpu' && gpus.length === 0) {
    throw new LockstepError(
      '--nproc gpu: no CUDA device is visible here; expected one in /dev, nvidia-smi and CUDA_VISIBLE_DEVICES, ' +
        'or use --nproc cpu',
    )
  }
  if (nproc === 'gpu') return gpus.length
  if (nproc === 'cpu') return cores
  return nproc === 'auto' ? gpus.length || cores : nproc
}

function nodeFlags(script: string, { typescript, bootstrap, lockstep }: Loaders): string[] {
  const extension = extname(script)
  if (![...TYPESCRIPT, ...JAVASCRIPT].includes(extension)) {
    const expected = [...TYPESCRIPT, ...JAVASCRIPT].join(' ')
    throw new LockstepError(
      `script ${script} is neither TypeScript nor JavaScript: expected one of ${expected}`,
    )
  }
  // Should an inspector be opened (see examine.ts), ranks must not want the same port.
  const inspector = '--inspect-port=0'
  const isSource = TYPESCRIPT.includes(extname(bootstrap))
  // tsx costs a fifth of a second: only for what needs it.
  if (!TYPESCRIPT.includes(extension) && !isSource)
    return ['--enable-source-maps', inspector, '--import', onMainThread(bootstrap)]
  if (isSource) return ['--import', typescript, inspector, '--import', onMainThread(bootstrap)]
  // tsx looks at every module that is loaded after it, which doubles what this package costs: so that comes first.
  return [inspector, '--import', onMainThread(bootstrap, lockstep), '--import', typescript]
}

/**
 * Worker threads inherit --import: there an uncaught exception belongs to whoever listens on the worker, and on
 * Node 20 a TypeScript module would not even load.
 */
export function onMainThread(...modules: (string | undefined)[]): string {
  const imports = modules.flatMap((module) => (module ? [`await import(${JSON.stringify(module)})`] : []))
  const source = `import{isMainThread}from'node:worker_threads';if(isMainThread){${imports.join(';')}}`
  return `data:text/javascript,${encodeURIComponent(source)}`
}
