/**
 * Ends a rank that has an uncaught exception the way a user should see it: its one line or its stack, and its exit
 * code. Under a launcher the words go there, which shows them once and last; otherwise to stderr. It refuses to
 * interfere where the script handles its uncaught exceptions itself.
 */
import { writeSync } from 'node:fs'
import { describeExit, describeFailure, type Failure } from './failure.js'
import { wasAskedToStop } from './stop-request.js'
import { REPORT_FD_VARIABLE } from './variables.js'

const INSTALLED = Symbol.for('lockstep.errorReporter')

/** Once per process, however many copies of the package ask for it; not in worker threads. */
export function installErrorReporter(): void {
  const registry = globalThis as { [INSTALLED]?: true }
  if (registry[INSTALLED]) return
  registry[INSTALLED] = true
  const descriptor = takeDescriptor()
  let isReported = false
  const report = (failure: Failure) => {
    isReported = descriptor !== undefined && tryWrite(descriptor, `${JSON.stringify(failure)}\n`)
    return isReported
  }
  // The monitor sees what nobody else will handle, and unlike an 'uncaughtException' listener changes nothing for
  // scripts that install their own.
  process.on('uncaughtExceptionMonitor', (error) => {
    if (process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback())
      return
    const failure = describeFailure(error)
    const last = lastCollectives(error)
    if (last !== '') tryWrite(2, last)
    if (!report(failure)) tryWrite(2, `${failure.text}\n`)
    process.exit(failure.exitCode)
  })
  process.on('exit', (exitCode) => {
    const failure = isReported || exitCode === 0 ? undefined : describeExit(exitCode, wasAskedToStop())
    if (failure) report(failure)
  })
}

/**
 * What the flight recorder of a failed collective held, for stderr, above the one line that says why. Not where another
 * rank's process ended: that rank's own last lines say more.
 */
function lastCollectives(error: unknown): string {
  const { name, recentOperations } = Object(error) as { name?: unknown; recentOperations?: readonly string[] }
  if (name === 'PeerFailedError' || !recentOperations?.length) return ''
  return `last collectives of this rank, oldest first:\n${recentOperations.map((line) => `  ${line}\n`).join('')}`
}

/** A child of this process would inherit the variable, but not the descriptor. */
function takeDescriptor(): number | undefined {
  const value = process.env[REPORT_FD_VARIABLE]
  delete process.env[REPORT_FD_VARIABLE]
  return value === undefined ? undefined : Number(value)
}

/** Synchronous, as the process ends right after it. False when nobody reads there: then the launcher is gone. */
function tryWrite(descriptor: number, text: string): boolean {
  try {
    writeSync(descriptor, text)
    return true
  } catch {
    return false
  }
}
