/** What commands of ddp-launch that are scripts of the package have in common: how they end. */
import { LockstepError } from '../errors.js'

/** Runs `command` with the command line; a LockstepError is one line and its exit code, as ddp-launch itself ends by one. */
export async function runCommand(command: (argv: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await command(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error
    process.stderr.write(`ddp-launch: ${error.message}\n`)
    process.exitCode = error.exitCode
  }
}
