/**
 * Subcommands that are scripts of the package, in src/commands: they know models and checkpoints, of which the launcher knows
 * nothing, and are started as a user's script is.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { signalExitCode } from './root-cause.js'

const ENDING = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
const TYPESCRIPT = import.meta.resolve('tsx')

/** @returns its exit code. */
export async function runPackageScript(name: string, argv: readonly string[]): Promise<number> {
  const script = fileURLToPath(new URL(`../src/commands/${name}.${ENDING}`, import.meta.url))
  const readsTypescript = argv.some((arg) => /\.[mc]?tsx?$/.test(arg))
  const loader = readsTypescript && ENDING === 'js' ? ['--import', TYPESCRIPT] : []
  const child = spawn(process.execPath, [...process.execArgv, ...loader, script, ...argv], {
    stdio: 'inherit',
  })
  const forward = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGTERM', forward).on('SIGINT', forward)
  const [code, signal] = await once(child, 'close')
  return code ?? signalExitCode(signal)
}
