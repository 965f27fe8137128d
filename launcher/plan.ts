/**
 * Options and machine -> what to start: one command with its environment per rank. Pure: it refuses to touch
 * processes, files or the clock.
 */
import { extname } from 'node:path'
import { LockstepError } from '../src/errors.js'
import {
  LAUNCHER_PID_VARIABLE,
  LIVE_VARIABLE,
  REPORT_FD_VARIABLE,
  rankVariables,
  type Transport,
} from '../src/runtime/environment/variables.js'
import type { LaunchOptions, RankCount } from './arguments.js'
import type { Machine } from './devices.js'

export interface Plan {
  readonly worldSize: number
  readonly threads: number
  readonly timeoutMs: number
  readonly transport: Transport
  readonly gpus: readonly string[]
  /** All arguments of node. */
  readonly nodeArguments: readonly string[]
}

/** Modules that node loads before the script, as URLs. */
export interface Loaders {
  /** Makes node understand TypeScript. */
  readonly typescript: string
  readonly bootstrap: string
}

/** What is known once the store listens. */
export interface Meeting {
  readonly host: string
  readonly port: number
  readonly token: string
  readonly launcherPid: number
  /** Whether somebody watches the launcher's output on a terminal. */
  readonly live: boolean
}

/** The file descriptor on which a rank tells the launcher why it fails. */
export const REPORT_FD = 3

const TYPESCRIPT = ['.ts', '.mts', '.cts', '.tsx']
const JAVASCRIPT = ['.js', '.mjs', '.cjs']

/** @throws LockstepError when the script is of another language, or GPUs are asked for and there are none. */
export function makePlan(options: LaunchOptions, machine: Machine, loaders: Loaders): Plan {
  const worldSize = countRanks(options.nproc, machine)
  return {
    worldSize,
    threads: options.threads ?? Math.max(1, Math.floor(machine.cores / worldSize)),
    timeoutMs: options.timeoutSeconds * 1000,
    transport: options.transport,
    gpus: machine.gpus,
    nodeArguments: [...nodeFlags(options.script, loaders), options.script, ...options.scriptArguments],
  }
}

/** The environment of one rank: the user's, with what makes it this rank. */
export function rankEnvironment(
  plan: Plan,
  rank: number,
  meeting: Meeting,
  env: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv {
  const gpu = plan.gpus[rank % plan.gpus.length]
  return {
    ...env,
    ...rankVariables({
      rank,
      localRank: rank,
      worldSize: plan.worldSize,
      localWorldSize: plan.worldSize,
      groupRank: 0,
      address: meeting.host,
      masterAddr: meeting.host,
      masterPort: meeting.port,
      token: meeting.token,
      threads: plan.threads,
      timeoutMs: plan.timeoutMs,
      transport: plan.transport,
    }),
    OMP_NUM_THREADS: env.OMP_NUM_THREADS || String(plan.threads),
    // tsx would leave its cache of translated files in /tmp.
    TSX_DISABLE_CACHE: env.TSX_DISABLE_CACHE ?? '1',
    ...(gpu === undefined ? {} : { CUDA_VISIBLE_DEVICES: gpu }),
    [LIVE_VARIABLE]: meeting.live ? '1' : '0',
    [REPORT_FD_VARIABLE]: String(REPORT_FD),
    [LAUNCHER_PID_VARIABLE]: String(meeting.launcherPid),
  }
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

function nodeFlags(script: string, { typescript, bootstrap }: Loaders): string[] {
  const extension = extname(script)
  if (![...TYPESCRIPT, ...JAVASCRIPT].includes(extension)) {
    const expected = [...TYPESCRIPT, ...JAVASCRIPT].join(' ')
    throw new LockstepError(
      `script ${script} is neither TypeScript nor JavaScript: expected one of ${expected}`,
    )
  }
  // tsx costs a fifth of a second: only for what needs it. (The bootstrap is TypeScript when run from source.)
  const needsTypescript = TYPESCRIPT.includes(extension) || TYPESCRIPT.includes(extname(bootstrap))
  const loader = needsTypescript ? ['--import', typescript] : ['--enable-source-maps']
  return [...loader, '--import', onMainThread(bootstrap)]
}

/**
 * Worker threads inherit --import: there an uncaught exception belongs to whoever listens on the worker, and on
 * Node 20 a TypeScript module would not even load.
 */
export function onMainThread(module: string): string {
  const source = `import{isMainThread}from'node:worker_threads';if(isMainThread)await import(${JSON.stringify(module)})`
  return `data:text/javascript,${encodeURIComponent(source)}`
}
