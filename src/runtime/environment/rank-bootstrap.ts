/**
 * Loaded into a rank by the launcher, before the user's script (`node --import`), not into its worker threads. It refuses
 * to load anything of the training runtime: a rank whose script does not parse should fail fast.
 */
import { installErrorReporter } from './error-reporter.js'
import { LAUNCHER_PID_VARIABLE } from './variables.js'

/** What a stream over a pipe has below its public face. */
interface Piped {
  readonly _handle: { setBlocking?(blocking: boolean): void } | null
}

const launcher = process.env[LAUNCHER_PID_VARIABLE]
delete process.env[LAUNCHER_PID_VARIABLE]
if (launcher !== undefined && process.ppid !== Number(launcher)) process.exit(1)
// Node writes to pipes asynchronously: what a rank said last would be lost with it.
for (const stream of [process.stdout, process.stderr]) (stream as Partial<Piped>)._handle?.setBlocking?.(true)
installErrorReporter()
