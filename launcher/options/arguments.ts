/**
 * argv -> what was given there. Knows the command line's form and its help; refuses to look at the machine, at the
 * environment or at any file.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { LockstepError } from '../../src/errors.js'
import type { Form } from './forms.js'
import { type Given, OPTION_NAMES, TABLE } from './table.js'

export interface CommandLine {
  readonly given: Given
  /** Where more options are to be read from. */
  readonly config: string | undefined
  readonly script: string
  /** The script's own, untouched. */
  readonly scriptArguments: readonly string[]
}

const NOTES = `
Each flag may also be a LOCKSTEP_* variable (LOCKSTEP_NPROC=4) or a line of the --config file (nproc: 4).
A flag goes before its variable, the variable before the file.

Examples:
  $ ddp-launch train.ts                         one rank
  $ ddp-launch --nproc 4 train.ts --epochs 3    four ranks; --epochs belongs to train.ts
  $ ddp-launch --nproc gpu train.ts             one rank per CUDA device, each sees its own
  $ ddp-launch --nproc 2 --threads 1 train.ts   two ranks, one thread each
  $ ddp-launch --nnodes 2 --nproc 8 --rdzv-endpoint node0:29500 --token-file job.token train.ts
                                                on both of two nodes: sixteen ranks`

type Subcommands = Readonly<Record<string, { readonly summary: string }>>

/**
 * Reads a command line (without node and the launcher's own name).
 * @param subcommands for the help: what each does, by its name
 * @returns undefined when there is nothing to launch: help or version was asked for, and is printed.
 * @throws LockstepError in one line, exit code 2, for any command line that is not right.
 */
export function parseArguments(
  argv: readonly string[],
  version: string,
  subcommands: Subcommands = {},
): CommandLine | undefined {
  let parsed: CommandLine | undefined
  const command = describe(version, subcommands).action(
    (script: string, scriptArguments: string[], values: Record<string, unknown>) => {
      parsed = { given: pick(values), config: values.config as string | undefined, script, scriptArguments }
    },
  )
  try {
    command.parse(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return undefined
    throw new LockstepError(oneLine(error), { cause: error })
  }
  return parsed
}

/** commander calls `--node-rank` nodeRank. */
function pick(values: Record<string, unknown>): Given {
  const entries = OPTION_NAMES.map((name) => [
    name,
    values[name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())],
  ])
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
}

function describe(version: string, subcommands: Subcommands): Command {
  const command = new Command('ddp-launch')
    .usage('[options] <script> [script arguments...]')
    .description(
      'Starts one process per rank of a TypeScript or JavaScript training script, and stops all when one fails.',
    )
    .argument('<script>', 'the training script: .ts, .mts, .cts, .tsx, .js, .mjs or .cjs')
    .argument('[arguments...]', 'all that follows the script is handed to it as it is')
  for (const name of OPTION_NAMES) {
    const { form, value, help } = TABLE[name]
    const option = new Option(value === undefined ? `--${name}` : `--${name} ${value}`, help)
    command.addOption(value === undefined ? option : option.argParser(parser<unknown>(form)))
  }
  return command
    .option('--config <file>', 'more options, as YAML')
    .version(version)
    .addHelpText('after', listed(subcommands) + NOTES)
    .passThroughOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => {} }) // the caller prints errors
}

function parser<T>(form: Form<T>): (text: string) => T {
  return (text) => {
    const value = form.read(text)
    if (value === undefined) throw new InvalidArgumentError(`Expected ${form.expected}.`)
    return value
  }
}

function listed(subcommands: Subcommands): string {
  const rows = Object.entries(subcommands).map(([name, { summary }]) => `  ${name.padEnd(28)}${summary}\n`)
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
