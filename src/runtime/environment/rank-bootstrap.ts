/**
 * Loaded into a rank by the launcher, before the user's script (`node --import`). It refuses to load anything of
 * the training runtime: a rank whose script does not parse should fail fast.
 */
import { isMainThread } from 'node:worker_threads'
import { installErrorReporter } from './error-reporter.js'
import { LAUNCHER_PID_VARIABLE } from './variables.js'

// Worker threads inherit --import: there an uncaught exception belongs to whoever listens on the worker.
if (isMainThread) {
  const launcher = process.env[LAUNCHER_PID_VARIABLE]
  delete process.env[LAUNCHER_PID_VARIABLE]
  if (launcher !== undefined && process.ppid !== Number(launcher)) process.exit(1)
  installErrorReporter()
}
