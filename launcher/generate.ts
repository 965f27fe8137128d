/**
 * `ddp-launch generate slurm|kubernetes [options] <script> [arguments]`: the same command line, as a job for a cluster, on
 * stdout and nothing else there. What such a job looks like is generate/*.ts' part.
 */
import { LockstepError } from '../src/errors.js'
import { describeJob, readFlags } from './generate/job.js'
import { kubernetes } from './generate/kubernetes.js'
import { slurm } from './generate/slurm.js'
import { parseArguments } from './options/arguments.js'

export const TARGETS = { slurm, kubernetes }
const NAMES = Object.keys(TARGETS).join('|')
const USAGE = `ddp-launch generate ${NAMES} [--image IMAGE] [options] <script> [script arguments...]`

export async function run(argv: readonly string[]): Promise<number> {
  const [name = '', ...line] = argv
  if (name === '--help' || name === '-h') {
    const rows = Object.entries(TARGETS).map(([target, { form }]) => `  ${target.padEnd(12)}${form}\n`)
    process.stdout.write(`${USAGE}\nWrites a job of the same options to stdout:\n${rows.join('')}`)
    return 0
  }
  if (!Object.hasOwn(TARGETS, name))
    throw new LockstepError(`generate ${name || '…'}: expected ${NAMES} (${USAGE})`)
  const text = generate(name as keyof typeof TARGETS, line)
  if (text !== undefined) process.stdout.write(text)
  return 0
}

/** Undefined when help was asked for. @throws LockstepError in one line for what no such job can be made of. */
export function generate(target: keyof typeof TARGETS, argv: readonly string[]): string | undefined {
  const { image, rest } = takeImage(argv)
  const commandLine = parseArguments(rest, '')
  if (commandLine === undefined) return undefined
  const tokens = rest.slice(0, rest.length - commandLine.scriptArguments.length - 1)
  return TARGETS[target].generate(describeJob(commandLine, tokens), image)
}

/** `--image` is the one option that no launch has; what follows the script is the script's. */
function takeImage(argv: readonly string[]): { image: string | undefined; rest: string[] } {
  let image: string | undefined
  const rest = [...argv]
  for (let i = 0; rest[i]?.startsWith('-'); ) {
    const [flag] = readFlags(rest.slice(i))
    const length = flag?.words.length ?? 1
    if (flag?.name !== 'image') i += length
    else
      image = rest
        .splice(i, length)
        .at(-1)
        ?.replace(/^--image=/, '')
  }
  return { image, rest }
}
