/**
 * The one error class that every room may use. It refuses to know what went wrong: that is the message's job.
 */

/**
 * An error that its reader can act on: one line that names what was given, what was expected and what to do.
 * Shown without a stack (a stack trace means a bug in Lockstep or in the script), and ends the process with
 * `exitCode`, 2 unless told otherwise.
 */
export class LockstepError extends Error {
  override name = 'LockstepError'
  readonly exitCode: number = 2
}
