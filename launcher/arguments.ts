/**
 * argv -> options. Knows the flags, their forms and their help; refuses to look at the machine or at any file.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { LockstepError } from '../src/errors.js'
import { DEFAULT_TIMEOUT_SECONDS, TRANSPORTS, type Transport } from '../src/runtime/environment/variables.js'
import { SUBCOMMANDS } from './subcommands.js'

export type RankCount = number | 'auto' | 'gpu' | 'cpu'

export interface LaunchOptions {
  readonly nproc: RankCount
  /** Intra-op threads of each rank; undefined: the cores divided among the ranks. */
  readonly threads: number | undefined
  /** How long ranks wait for each other. */
  readonly timeoutSeconds: number
  /** How ranks exchange numbers. */
  readonly transport: Transport
  readonly script: string
  /** The script's own, untouched. */
  readonly scriptArguments: readonly string[]
}

const EXAMPLES = `
Examples:
  $ ddp-launch train.ts                         one rank
  $ ddp-launch --nproc 4 train.ts --epochs 3    four ranks; --epochs belongs to train.ts
  $ ddp-launch --nproc gpu train.ts             one rank per CUDA device, each sees its own
  $ ddp-launch --nproc 2 --threads 1 train.ts   two ranks, one thread each`

/**
 * Reads a command line (without node and the launcher's own name).
 * @returns undefined when there is nothing to launch: help or version was asked for, and is printed.
 * @throws LockstepError in one line, exit code 2, for any command line that is not right.
 */
export function parseArguments(argv: readonly string[], version: string): LaunchOptions | undefined {
  let parsed: LaunchOptions | undefined
  const command = describe(version).action((script: string, scriptArguments: string[], flags: Flags) => {
    parsed = {
      nproc: flags.nproc ?? flags.nprocPerNode ?? 1,
      threads: flags.threads,
      timeoutSeconds: flags.timeout,
      transport: flags.transport,
      script,
      scriptArguments,
    }
  })
  try {
    command.parse(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return undefined
    throw new LockstepError(oneLine(error), { cause: error })
  }
  return parsed
}

interface Flags {
  readonly nproc?: RankCount
  readonly nprocPerNode?: RankCount
  readonly threads?: number
  readonly timeout: number
  readonly transport: Transport
}

function describe(version: string): Command {
  return new Command('ddp-launch')
    .usage('[options] <script> [script arguments...]')
    .description(
      'Starts one process per rank of a TypeScript or JavaScript training script, and stops all when one fails.',
    )
    .argument('<script>', 'the training script: .ts, .mts, .cts, .tsx, .js, .mjs or .cjs')
    .argument('[arguments...]', 'all that follows the script is handed to it as it is')
    .addOption(
      new Option(
        '--nproc <count>',
        'ranks: a number, gpu (CUDA devices), cpu (cores) or auto (gpu, else cpu)',
      )
        .argParser(rankCount)
        .conflicts('nprocPerNode'),
    )
    .addOption(new Option('--nproc-per-node <count>', "the same, by torchrun's name").argParser(rankCount))
    .addOption(
      new Option('--threads <count>', 'intra-op threads of each rank (default: cores / ranks)').argParser(
        wholeNumber,
      ),
    )
    .addOption(
      new Option('--timeout <seconds>', 'how long ranks wait for each other')
        .argParser(seconds)
        .default(DEFAULT_TIMEOUT_SECONDS),
    )
    .addOption(
      new Option('--transport <name>', 'how ranks exchange numbers (auto: shared memory, else TCP)')
        .choices(TRANSPORTS)
        .default('auto'),
    )
    .version(version)
    .addHelpText('after', subcommands() + EXAMPLES)
    .passThroughOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => {} }) // the caller prints errors
}

function subcommands(): string {
  const rows = Object.entries(SUBCOMMANDS).map(([name, { summary }]) => `  ${name.padEnd(28)}${summary}\n`)
  return rows.length === 0 ? '' : `\nSubcommands (each has its own --help):\n${rows.join('')}`
}

function oneLine(error: CommanderError): string {
  const text = error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')
  if (error.code === 'commander.missingArgument')
    return 'no script was given: expected ddp-launch [options] <script>'
  return error.code === 'commander.unknownOption' && !text.includes('Did you mean')
    ? `${text} (see --help)`
    : text
}

function rankCount(value: string): RankCount {
  if (value === 'auto' || value === 'gpu' || value === 'cpu') return value
  if (isWholeNumber(value)) return Number(value)
  throw new InvalidArgumentError('Expected a whole number of at least 1, auto, gpu or cpu.')
}

function wholeNumber(value: string): number {
  if (isWholeNumber(value)) return Number(value)
  throw new InvalidArgumentError('Expected a whole number of at least 1.')
}

function isWholeNumber(value: string): boolean {
  return /^[1-9]\d{0,5}$/.test(value)
}

function seconds(value: string): number {
  if (/^(\d+(\.\d*)?|\.\d+)$/.test(value) && Number(value) > 0) return Number(value)
  throw new InvalidArgumentError('Expected a number of seconds above 0.')
}
