/** The command line of this example: parsed and checked, nothing else. */
import { parseArgs } from 'node:util'
import { LockstepError } from 'lockstep'

const USAGE =
  'usage: ddp-launch --nproc N examples/mnist/train.ts [--data DIR] [--model mlp|cnn] [--epochs E] [--steps S] ' +
  '[--batch B] [--lr X] [--optimizer sgd|momentum|adam] [--seed S] [--compression NAME] ' +
  '[--precision float32|bfloat16|float16] [--checkpoint DIR] [--save-every STEPS] [--json FILE]'

export interface Options {
  /** Holds MNIST in IDX files; undefined: digits are generated. */
  readonly data: string | undefined
  readonly model: 'mlp' | 'cnn'
  readonly epochs: number
  /** Stop after so many steps in all. */
  readonly steps: number
  /** Samples per rank and step. */
  readonly batch: number
  readonly lr: number
  readonly optimizer: 'sgd' | 'momentum' | 'adam'
  readonly seed: number
  /** How gradients travel: none, int8, topk:0.01, … (checked by ddp, which knows them). */
  readonly compression: string
  /** What products compute in. */
  readonly precision: 'float32' | 'bfloat16' | 'float16'
  readonly checkpoint: string | undefined
  readonly saveEvery: number
  readonly json: string | undefined
}

/** Learning rates that train this example's models well, where none is given. */
const usualRate = { sgd: 0.1, momentum: 0.02, adam: 0.001 }

/** @throws LockstepError naming the flag, what was given and what was expected. */
export function readOptions(args: readonly string[]): Options {
  const text = readFlags(args)
  const optimizer = oneOf('optimizer', text.optimizer ?? 'adam', ['sgd', 'momentum', 'adam'])
  if (text['save-every'] !== undefined && text.checkpoint === undefined) {
    throw new LockstepError('--save-every needs --checkpoint DIR, the directory to save to')
  }
  return {
    data: text.data,
    model: oneOf('model', text.model ?? 'cnn', ['mlp', 'cnn']),
    epochs: whole('epochs', text.epochs ?? '3', 1),
    steps: text.steps === undefined ? Number.POSITIVE_INFINITY : whole('steps', text.steps, 1),
    batch: whole('batch', text.batch ?? '64', 1),
    lr: positive('lr', text.lr ?? String(usualRate[optimizer])),
    optimizer,
    seed: whole('seed', text.seed ?? '0', 0),
    compression: text.compression ?? 'none',
    precision: oneOf('precision', text.precision ?? 'float32', ['float32', 'bfloat16', 'float16']),
    checkpoint: text.checkpoint,
    saveEvery:
      text['save-every'] === undefined
        ? Number.POSITIVE_INFINITY
        : whole('save-every', text['save-every'], 1),
    json: text.json,
  }
}

const string = { type: 'string' } as const

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        data: string,
        model: string,
        epochs: string,
        steps: string,
        batch: string,
        lr: string,
        optimizer: string,
        seed: string,
        compression: string,
        precision: string,
        checkpoint: string,
        'save-every': string,
        json: string,
      },
    }).values
  } catch (cause) {
    const [reason] = (cause as Error).message.split('. ')
    throw new LockstepError(`${reason}; ${USAGE}`, { cause })
  }
}

function oneOf<T extends string>(flag: string, given: string, known: readonly T[]): T {
  const found = known.find((name) => name === given)
  if (found !== undefined) return found
  throw new LockstepError(`--${flag} is ${JSON.stringify(given)}: expected ${known.join(', ')}`)
}

function whole(flag: string, given: string, least: number): number {
  const value = Number(given)
  if (/^\d+$/.test(given) && Number.isSafeInteger(value) && value >= least) return value
  throw new LockstepError(
    `--${flag} is ${JSON.stringify(given)}: expected a whole number of at least ${least}`,
  )
}

function positive(flag: string, given: string): number {
  const value = Number(given)
  if (given.trim() !== '' && value > 0 && Number.isFinite(value)) return value
  throw new LockstepError(`--${flag} is ${JSON.stringify(given)}: expected a number above 0`)
}
