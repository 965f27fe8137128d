/** argv of `ddp-launch bench scaling` -> what is to be measured. It refuses to look at the machine, but for the cores given. */
import { parseArgs } from 'node:util'
import { LockstepError } from '../../src/errors.js'
import { TRANSPORTS, type Transport } from '../../src/runtime/environment/variables.js'

/** Models by name, with the batch of a rank that they are measured with unless told otherwise. */
const MODELS = { mlp: 128, cnn: 32, resnet: 32, resnet18: 32, gpt: 16 } as const
export type ModelName = keyof typeof MODELS

/** `weak`: the same batch for each rank; `strong`: the same batch for all together. */
export const KINDS = ['weak', 'strong'] as const
export type Kind = (typeof KINDS)[number]

export interface ScalingOptions {
  /** Ascending, from 1. */
  readonly nproc: readonly number[]
  readonly model: ModelName
  readonly batch: number
  readonly steps: number
  readonly threads: number
  readonly kinds: readonly Kind[]
  readonly transport: Transport
  readonly compression: string
  /** Files to write. */
  readonly json: string | undefined
  readonly report: string | undefined
}

const NAMES = Object.keys(MODELS).join('|')
export const USAGE = `ddp-launch bench scaling [--nproc 1,2,4] [--model ${NAMES}] [--batch B] [--steps S] [--threads T]
  [--weak | --strong] [--transport ${TRANSPORTS.join('|')}] [--compression NAME] [--json FILE] [--report FILE.md]

Runs 1, 2, … ranks of a reference model on this machine, and says how well they scale.

  --nproc        numbers of ranks, 1 among them (default: 1,2,4, as far as there are cores)
  --model        what is trained, on made-up data (default: cnn)
  --batch        samples a step: of each rank (weak scaling), of all together (strong) (default: the model's)
  --steps        steps that count, after those that warm up (default: 30)
  --threads      threads of each rank (default: 1)
  --weak         the same batch for each rank only; --strong: the same for all only (default: both)
  --transport    as of a launch (default: auto)
  --compression  of gradients, as int8 or topk:0.01 (default: none)
  --json         writes all figures; --report: writes them for people, in Markdown`

/** @returns undefined when help was asked for. @throws LockstepError in one line. */
export function readOptions(argv: readonly string[], cores: number): ScalingOptions | undefined {
  const values = parse(argv)
  if (values.help) return undefined
  const { model, transport, compression, json, report } = values
  if (!isModel(model)) throw wrong('model', model, `one of ${Object.keys(MODELS).join(', ')}`)
  const known = TRANSPORTS.find((name) => name === transport)
  if (known === undefined) throw wrong('transport', transport, `one of ${TRANSPORTS.join(', ')}`)
  if (values.weak && values.strong)
    throw new LockstepError('bench scaling: --weak cannot be used with --strong: give neither for both')
  const nproc =
    values.nproc === undefined ? [1, 2, 4].filter((n) => n === 1 || n <= cores) : ranks(values.nproc)
  const batch = values.batch === undefined ? MODELS[model] : positive('batch', values.batch)
  const kinds = KINDS.filter((kind) => values[kind] || !(values.weak || values.strong))
  const uneven = kinds.includes('strong') ? nproc.find((n) => batch % n !== 0) : undefined
  if (uneven !== undefined) {
    throw new LockstepError(
      `bench scaling: a batch of ${batch} cannot be shared by ${uneven} ranks: expected a multiple of every --nproc, or --weak`,
    )
  }
  return {
    ...{ nproc, model, batch, kinds, transport: known, compression, json, report },
    steps: positive('steps', values.steps),
    threads: positive('threads', values.threads),
  }
}

function parse(argv: readonly string[]) {
  try {
    const options = {
      nproc: { type: 'string' },
      model: { type: 'string', default: 'cnn' },
      batch: { type: 'string' },
      steps: { type: 'string', default: '30' },
      threads: { type: 'string', default: '1' },
      weak: { type: 'boolean', default: false },
      strong: { type: 'boolean', default: false },
      transport: { type: 'string', default: 'auto' },
      compression: { type: 'string', default: 'none' },
      json: { type: 'string' },
      report: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    } as const
    return parseArgs({ args: [...argv], options }).values
  } catch (cause) {
    const [line] = (cause as Error).message.split('\n')
    throw new LockstepError(`bench scaling: ${line} (see --help)`, { cause })
  }
}

function ranks(text: string): number[] {
  const counts = text.split(',').map((each) => (/^\d{1,4}$/.test(each) ? Number(each) : 0))
  if (counts.some((count) => count < 1) || !counts.includes(1))
    throw wrong('nproc', text, 'numbers of ranks as in 1,2,4, with the 1 that others are compared to')
  return [...new Set(counts)].toSorted((a, b) => a - b)
}

function positive(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0) throw wrong(name, text, 'a whole number of at least 1')
  return Number(text)
}

const isModel = (name: string): name is ModelName => Object.hasOwn(MODELS, name)

function wrong(name: string, given: string, expected: string): LockstepError {
  return new LockstepError(`bench scaling: --${name} is "${given}": expected ${expected}`)
}
