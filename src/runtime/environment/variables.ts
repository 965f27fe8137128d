/**
 * The environment contract between the launcher and a rank: torchrun's names, plus LOCKSTEP_* for what torchrun
 * has no name for. It refuses to guess: a rank that was launched halfway gets an error, not a world of one.
 */
import { LockstepError } from '../../errors.js'
import { readTls, type TlsSetting, tlsVariables } from './tls.js'

export interface RankEnvironment {
  /** This process among all, 0 … worldSize - 1. */
  readonly rank: number
  /** This process among those of its host. */
  readonly localRank: number
  readonly worldSize: number
  readonly localWorldSize: number
  /** The host among the hosts. */
  readonly groupRank: number
  /** Where this rank listens for the others, and what it tells them: an address of this host that the others reach. */
  readonly address: string
  /** Where the launcher's store listens. */
  readonly masterAddr: string
  readonly masterPort: number
  /** The job's secret, hexadecimal. */
  readonly token: string
  /** Threads that one operation may use in this rank. */
  readonly threads: number
  /** How long one rank waits for another, in milliseconds. */
  readonly timeoutMs: number
  /** How ranks exchange numbers. */
  readonly transport: Transport
  /** How what leaves this host is encrypted; undefined: it is not. */
  readonly tls?: TlsSetting | undefined
}

export const DEFAULT_TIMEOUT_SECONDS = 60
/** Reaches no further than this host. */
export const DEFAULT_ADDRESS = '127.0.0.1'

/** `auto`: shared memory where all ranks can have it, else TCP. */
export const TRANSPORTS = ['auto', 'shm', 'tcp', 'ws', 'unix'] as const
export type Transport = (typeof TRANSPORTS)[number]

/** Which engine computes, over what the script asks for: `ddp-launch --engine`. Works without the launcher too. */
export const ENGINE_VARIABLE = 'LOCKSTEP_ENGINE'
export const ENGINES = ['auto', 'onnx', 'onnx:cpu', 'onnx:webgpu', 'onnx:cuda', 'tfjs'] as const
export type EngineSetting = (typeof ENGINES)[number]

/** @throws LockstepError naming the engines when the variable holds none of them. */
export function readEngine(env: Variables = process.env): EngineSetting | undefined {
  const value = env[ENGINE_VARIABLE]
  if (value === undefined) return undefined
  const known = ENGINES.find((name) => name === value)
  if (known !== undefined) return known
  throw new LockstepError(
    `environment variable ${ENGINE_VARIABLE} is "${value}": expected one of ${ENGINES.join(', ')}`,
  )
}

/** Where ranks write a profile of some steps, over what the script asks for: `ddp-launch --profile`. */
export const PROFILE_VARIABLE = 'LOCKSTEP_PROFILE'

/** The directory for profiles; undefined: none. */
export function readProfile(env: Variables = process.env): string | undefined {
  return env[PROFILE_VARIABLE] || undefined
}

/** The file for what all ranks do, as a trace that rank 0 writes: `ddp-launch --timeline`. Works without the launcher too. */
export const TIMELINE_VARIABLE = 'LOCKSTEP_TIMELINE'

/** The file for the timeline; undefined: none. */
export function readTimeline(env: Variables = process.env): string | undefined {
  return env[TIMELINE_VARIABLE] || undefined
}

/**
 * "1" when the launcher's own output is a terminal. A rank may then write one *live line* to its stdout: `\r`, the
 * text, `\r`, in one write and without a newline. The launcher redraws it in place; the next line of that rank, or
 * an empty live line (`\r\r`), clears it. (The closing `\r` is what keeps it apart from what is written next.)
 */
export const LIVE_VARIABLE = 'LOCKSTEP_LIVE'
/** The file descriptor on which the launcher reads why a rank failed. Taken out of the environment once read. */
export const REPORT_FD_VARIABLE = 'LOCKSTEP_REPORT_FD'
/** The one on which it reads this rank's metrics, where somebody wants them. Taken out as well. */
export const METRICS_FD_VARIABLE = 'LOCKSTEP_METRICS_FD'
/** Process id of the launcher, for noticing that it died before it could tell anybody of this rank. */
export const LAUNCHER_PID_VARIABLE = 'LOCKSTEP_LAUNCHER_PID'

/** How often all ranks have started again after a failure, how often they may, and the name of the job: for scripts. */
export const RESTART_COUNT_VARIABLE = 'LOCKSTEP_RESTART_COUNT'
export const MAX_RESTARTS_VARIABLE = 'LOCKSTEP_MAX_RESTARTS'
export const RUN_ID_VARIABLE = 'LOCKSTEP_RUN_ID'

type Variables = Readonly<Record<string, string | undefined>>

/**
 * What the launcher told this process; undefined when no launcher started it (a world of one).
 * @throws LockstepError naming the variable, what it holds and what was expected.
 */
export function readEnvironment(env: Variables = process.env): RankEnvironment | undefined {
  if (env.RANK === undefined && env.WORLD_SIZE === undefined && env.LOCKSTEP_TOKEN === undefined)
    return undefined
  const worldSize = integer(env, 'WORLD_SIZE', 1)
  const localWorldSize = integer(env, 'LOCAL_WORLD_SIZE', 1, worldSize)
  return {
    rank: integer(env, 'RANK', 0, worldSize - 1),
    localRank: integer(env, 'LOCAL_RANK', 0, localWorldSize - 1),
    worldSize,
    localWorldSize,
    groupRank: integer(env, 'GROUP_RANK', 0, worldSize - 1),
    address: text(
      { LOCKSTEP_ADDR: DEFAULT_ADDRESS, ...env },
      'LOCKSTEP_ADDR',
      /^\S+$/,
      'an address of this host',
    ),
    masterAddr: text(env, 'MASTER_ADDR', /^\S+$/, 'a host name or address'),
    masterPort: integer(env, 'MASTER_PORT', 1, 65535),
    token: text(env, 'LOCKSTEP_TOKEN', /^(?:[0-9a-f]{2}){16,}$/, 'at least 32 hexadecimal digits'),
    threads: integer(env, 'LOCKSTEP_THREADS', 1),
    timeoutMs: seconds(env, 'LOCKSTEP_TIMEOUT') * 1000,
    transport: transport(env),
    tls: readTls(env),
  }
}

/** What the launcher sets for one rank: the inverse of `readEnvironment`. */
export function rankVariables(e: RankEnvironment): Record<string, string> {
  return {
    RANK: String(e.rank),
    LOCAL_RANK: String(e.localRank),
    WORLD_SIZE: String(e.worldSize),
    LOCAL_WORLD_SIZE: String(e.localWorldSize),
    GROUP_RANK: String(e.groupRank),
    LOCKSTEP_ADDR: e.address,
    MASTER_ADDR: e.masterAddr,
    MASTER_PORT: String(e.masterPort),
    LOCKSTEP_TOKEN: e.token,
    LOCKSTEP_THREADS: String(e.threads),
    LOCKSTEP_TIMEOUT: String(e.timeoutMs / 1000),
    LOCKSTEP_TRANSPORT: e.transport,
    ...tlsVariables(e.tls),
  }
}

function integer(env: Variables, name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
  const value = Number(text(env, name, /^\d{1,15}$/, `a whole number ${range}`))
  if (value < least || value > most) throw wrong(env, name, `a whole number ${range}`)
  return value
}

function seconds(env: Variables, name: string): number {
  if (env[name] === undefined) return DEFAULT_TIMEOUT_SECONDS
  const value = Number(text(env, name, /^[\d.]+$/, 'a number of seconds above 0'))
  if (!(value > 0 && Number.isFinite(value))) throw wrong(env, name, 'a number of seconds above 0')
  return value
}

function transport(env: Variables): Transport {
  const value = env.LOCKSTEP_TRANSPORT ?? 'auto'
  const known = TRANSPORTS.find((name) => name === value)
  if (known === undefined) throw wrong(env, 'LOCKSTEP_TRANSPORT', `one of ${TRANSPORTS.join(', ')}`)
  return known
}

function text(env: Variables, name: string, form: RegExp, expected: string): string {
  const value = env[name]
  if (value === undefined || !form.test(value)) throw wrong(env, name, expected)
  return value
}

function wrong(env: Variables, name: string, expected: string): LockstepError {
  const value = env[name]
  // The token is the job's secret: it must not end in a log.
  const given =
    value === undefined ? 'is not set' : name === 'LOCKSTEP_TOKEN' ? 'is malformed' : `is "${value}"`
  return new LockstepError(
    `environment variable ${name} ${given}: expected ${expected}, as ddp-launch sets it ` +
      '(to run without ddp-launch, unset RANK, WORLD_SIZE and LOCKSTEP_TOKEN)',
  )
}
