#!/usr/bin/env node
/**
 * The command `ddp-launch`: a subcommand, or else a script to launch. Ends with the exit code of either, and shows a
 * user's error as one line. It refuses to know how any of that is done.
 */
import { LockstepError } from '../src/errors.js'
import { launch } from './launch.js'
import { findSubcommand } from './subcommands.js'

async function main(argv: readonly string[]): Promise<number> {
  const subcommand = findSubcommand(argv)
  return subcommand ? (await subcommand.load()).run(argv.slice(1)) : launch(argv)
}

try {
  // Not left to the event loop: nothing that a rank has left behind may keep the launcher.
  process.exit(await main(process.argv.slice(2)))
} catch (error) {
  if (!(error instanceof LockstepError)) throw error
  process.stderr.write(`ddp-launch: ${error.message}\n`)
  process.exit(error.exitCode)
}
