/**
 * Launches a script: reads the command line, makes the plan, and has it supervised. It refuses to know how any of that
 * is done.
 */
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { LockstepError } from '../src/errors.js'
import { startStore } from '../src/runtime/environment/store-server.js'
import { parseArguments } from './arguments.js'
import { readMachine } from './devices.js'
import { Output } from './output.js'
import { makePlan } from './plan.js'
import { type Interruptions, supervise } from './supervise.js'

/** One host: nobody else can reach the job. */
const HOST = '127.0.0.1'

const { version } = createRequire(import.meta.url)('lockstep/package.json') as { version: string }

// Resolved from here, not from where the user is: the script's project needs no tsx of its own.
const LOADERS = {
  typescript: import.meta.resolve('tsx'),
  bootstrap: import.meta.resolve(
    `../src/runtime/environment/rank-bootstrap.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`,
  ),
}

/** @returns the exit code of the job. @throws LockstepError for a wrong command line. */
export async function launch(argv: readonly string[]): Promise<number> {
  const options = parseArguments(argv, version)
  if (!options) return 0
  const plan = makePlan({ ...options, script: findScript(options.script) }, readMachine(process.env), LOADERS)

  const interruptions = listenForInterruptions()
  const output = new Output(process.stdout, process.stderr, process.env)
  const token = randomBytes(32).toString('hex')
  const store = await startStore({
    host: HOST,
    token,
    onRefused: (error) => output.say(`ddp-launch: ${error.message}`),
  })
  const meeting = { host: HOST, port: store.port, token, launcherPid: process.pid, live: output.isLive }
  const exitCode = await supervise(plan, meeting, process.env, output, interruptions)
  await store.close()
  await Promise.race([output.flushed(), interruptions.second])
  return exitCode
}

function findScript(script: string): string {
  const path = resolve(script)
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    throw new LockstepError(
      `script ${script} is not a file (looked at ${path}): expected a TypeScript or JavaScript script`,
    )
  }
  return path
}

function listenForInterruptions(): Interruptions {
  const listeners: ((signal: NodeJS.Signals) => void)[] = []
  const next = () => new Promise<NodeJS.Signals>((resolve) => listeners.push(resolve))
  const [first, second] = [next(), next()]
  const interrupt = (signal: NodeJS.Signals) => listeners.shift()?.(signal)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupt(signal))
  // Whoever read our output has gone (`ddp-launch … | head`).
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => interrupt('SIGPIPE'))
  return { first, second }
}
