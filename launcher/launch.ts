/**
 * Launches a script: reads the settings, makes the plan, takes this node's seat in the job and does its part. It
 * refuses to know how any of that is done.
 */
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LockstepError } from '../src/errors.js'
import { loadTls } from '../src/runtime/environment/tls.js'
import { readMachine } from './devices.js'
import { listenForInterruptions } from './interruptions.js'
import { AttemptLogs, checkLogDirectory } from './logs.js'
import { LocalNode } from './node.js'
import { parseArguments } from './options/arguments.js'
import type { HostPort } from './options/forms.js'
import { nearest } from './options/nearest.js'
import { readSettings, type Settings } from './options/settings.js'
import type { Given } from './options/table.js'
import { Output } from './output.js'
import { makePlan } from './plan.js'
import { isKept, RankOutput } from './rank-output.js'
import type { RankState } from './rank-state.js'
import { startReaper } from './reaper.js'
import type { Seat } from './rendezvous/away.js'
import type { Assignment } from './rendezvous/messages.js'
import { takeSeat } from './rendezvous/seat.js'
import { hasFailed, signalExitCode } from './root-cause.js'
import { SUBCOMMANDS } from './subcommands.js'
import { attemptToken, readToken } from './token.js'

const { version } = createRequire(import.meta.url)('lockstep/package.json') as { version: string }

const ENDING = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
const PACKAGE = import.meta.resolve(`../src/index.${ENDING}`)
// Resolved from here, not from where the user is: the script's project needs no tsx of its own.
const LOADERS = {
  typescript: import.meta.resolve('tsx'),
  bootstrap: import.meta.resolve(`../src/runtime/environment/rank-bootstrap.${ENDING}`),
}

/** @returns the exit code of the job. @throws LockstepError for what no job can be made of. */
export async function launch(argv: readonly string[]): Promise<number> {
  const commandLine = parseArguments(argv, version, SUBCOMMANDS)
  if (!commandLine) return 0
  const env = process.env
  const settings = readSettings(commandLine, env, await readConfig(commandLine.config ?? env.LOCKSTEP_CONFIG))
  const script = findScript(settings.script)
  const lockstep = importsThisPackage(script) ? PACKAGE : undefined
  const plan = makePlan({ ...settings, script }, readMachine(env), { ...LOADERS, lockstep })
  if (settings.logDirectory !== undefined) checkLogDirectory(settings.logDirectory)
  const metrics = settings.metrics && (await openMetrics(settings.metrics))
  const token = readToken(settings.tokenFile, env, settings.nodes.max)
  const tls = loadTls(settings.tls)

  const interruptions = listenForInterruptions()
  const output = new Output(process.stdout, process.stderr, env)
  const say = (text: string) => output.say(text)
  if (metrics) say(`ddp-launch: metrics of this node's ranks are at ${metrics.url}`)
  let seat: Seat | undefined
  const node = new LocalNode({
    ...{ plan, env, say, stopMs: settings.stopSeconds * 1000, reaper: await startReaper() },
    metrics: metrics?.node,
    report: (report) => seat?.report(report),
    prepare: (assignment) => {
      const logs = openLogs(settings, assignment, say)
      metrics?.node.begin(assignment, plan.localWorldSize)
      return {
        meeting: {
          assignment,
          token: attemptToken(token, assignment.runId, assignment.attempt),
          launcherPid: process.pid,
          live: output.isLive,
        },
        listener: new RankOutput(settings, output, logs),
        conclude: async (states) => {
          await logs?.close(states)
          return logs ? states.map((state) => withLogs(state, logs)) : states
        },
      }
    },
  })
  const seated = takeSeat({
    ...settings,
    ...{
      version,
      token,
      tls,
      say,
      ranks: plan.localWorldSize,
      runId: settings.jobName ?? makeRunId(new Date()),
    },
    take: (order) => node.take(order),
    retreat: () => node.retreat(),
    abandon: (coordinator, reason) => node.abandon(coordinator, reason),
  })
  const seatOrSignal = await Promise.race([seated, interruptions.first])
  if (typeof seatOrSignal === 'string') return signalExitCode(seatOrSignal)
  seat = seatOrSignal
  void node.heed(interruptions)
  seat.join()
  const exitCode = await node.over
  await seat.close()
  await Promise.race([output.flushed(), interruptions.second])
  return exitCode
}

/** A launch without metrics does not load what they need. */
async function openMetrics({ host, port }: HostPort) {
  const [{ NodeMetrics }, { serveMetrics }] = await Promise.all([
    import('./metrics.js'),
    import('./metrics-server.js'),
  ])
  const node = new NodeMetrics()
  return { node, url: await serveMetrics(host, port, () => node.page()) }
}

function openLogs(
  settings: Settings,
  assignment: Assignment,
  say: (text: string) => void,
): AttemptLogs | undefined {
  const { logDirectory } = settings
  if (logDirectory === undefined) return undefined
  return new AttemptLogs(logDirectory, assignment, (who, stream) => isKept(settings, who, stream), say)
}

/** Tells whoever reads of a failure where the rest is. */
function withLogs(state: RankState, logs: AttemptLogs): RankState {
  if (!hasFailed(state) || state.failure?.secondary) return state
  return { ...state, hints: [...state.hints, `all of it is in ${logs.directoryOf(state.rank)}`] }
}

/** For a job without a name: when it began, and something that tells it from others of that second. */
function makeRunId(now: Date): string {
  const time = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-')
  return `${time}-${randomBytes(2).toString('hex')}`
}

async function readConfig(path: string | undefined): Promise<Given> {
  // A launch without such a file does not wait for a YAML parser.
  return path ? (await import('./options/config-file.js')).readConfigFile(path) : {}
}

function findScript(script: string): string {
  const path = resolve(script)
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    const near = script.includes('.') ? undefined : nearest(script, Object.keys(SUBCOMMANDS))
    throw new LockstepError(
      `script ${script} is not a file (looked at ${path}): ` +
        (near ? `did you mean ddp-launch ${near}?` : 'expected a TypeScript or JavaScript script'),
    )
  }
  return path
}

/** Whether the script's 'lockstep' is this package, and not a copy of its own, or none. */
function importsThisPackage(script: string): boolean {
  try {
    return createRequire(script).resolve('lockstep') === fileURLToPath(PACKAGE)
  } catch {
    return false
  }
}
