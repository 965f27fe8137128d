/**
 * The compressors by name, and their options as text: `name[:value][,option=value]…[+codec]`, for example `int8`,
 * `topk:0.01`, `powersgd:4+bfloat16`, `onebit,warmup=100`. It sums nothing itself.
 */
import { LockstepError } from '../../errors.js'
import type { Codec } from './codec.js'
import { float32 } from './codecs/float32.js'
import { bfloat16, float16 } from './codecs/half.js'
import { int4 } from './codecs/int4.js'
import { int8 } from './codecs/int8.js'
import { sign } from './codecs/sign.js'
import type { CompressedSum, Compressor } from './compressor.js'
import { PowerSgdSum } from './power-sgd-sum.js'
import { QuantisedSum } from './quantised-sum.js'
import { RandomSum } from './random-sum.js'
import { SparseSum } from './sparse-sum.js'

/** A number that an option may be, and what it is where none is given. */
interface Range {
  readonly least: number
  readonly most: number
  readonly usual: number
  readonly whole?: boolean
}

interface Row {
  /** Options besides `warmup` and `feedback`, which all take; `value` is the one after the colon. */
  readonly options?: Readonly<Record<string, Range>>
  /** Whether it keeps what it does not send, unless told otherwise. */
  readonly feedback: boolean
  /** Whether a codec may follow it. */
  readonly chains?: boolean
  create(
    options: Readonly<Record<string, number>>,
    feedback: boolean,
    codec: Codec | undefined,
  ): Compressor['create']
}

const ratio: Range = { least: 1e-6, most: 1, usual: 0.01 }
const rampup: Range = { least: 0, most: 1e9, usual: 0, whole: true }

const quantised = (codec: Codec, feedback = false): Row => ({
  feedback,
  create: (_, keeps) => (tensors, size) => new QuantisedSum(codec, tensors, size, keeps),
})

const CODECS: Readonly<Record<string, Codec>> = { float16, bfloat16, int8, int4 }

export const COMPRESSORS: Readonly<Record<string, Row>> = {
  float16: quantised(float16),
  bfloat16: quantised(bfloat16),
  int8: quantised(int8),
  int4: quantised(int4, true),
  onebit: quantised(sign, true),
  topk: {
    options: { value: ratio, rampup },
    feedback: true,
    chains: true,
    create:
      ({ value, rampup }, feedback, codec = float32) =>
      (tensors, size) => {
        const ratioAt = (step: number) => rampedUp(value!, rampup!, step)
        return new SparseSum({ ratioAt, codec, feedback, momentum: 0, clipNorm: 0 }, tensors, size)
      },
  },
  randomk: {
    options: { value: ratio },
    feedback: true,
    chains: true,
    create:
      ({ value }, feedback, codec) =>
      (tensors, size) =>
        new RandomSum(value!, codec, feedback, tensors, size),
  },
  dgc: {
    options: {
      value: { ...ratio, usual: 0.001 },
      momentum: { least: 0, most: 0.9999, usual: 0.9 },
      rampup,
      clip: { least: 0, most: 1e9, usual: 0 },
    },
    feedback: true,
    chains: true,
    create:
      ({ value, momentum, rampup, clip }, feedback, codec = float32) =>
      (tensors, size) => {
        const ratioAt = (step: number) => rampedUp(value!, rampup!, step)
        return new SparseSum(
          { ratioAt, codec, feedback, momentum: momentum!, clipNorm: clip! },
          tensors,
          size,
        )
      },
  },
  powersgd: {
    options: { value: { least: 1, most: 64, usual: 4, whole: true } },
    feedback: true,
    chains: true,
    create:
      ({ value }, feedback, codec) =>
      (tensors, size) =>
        new PowerSgdSum({ rank: value!, codec, feedback }, tensors, size),
  },
}

const WARMUP: Range = { least: 0, most: 1e9, usual: 0, whole: true }

/** Deep Gradient Compression's warm-up: a quarter of the elements at first, a quarter as many at each of four stages. */
function rampedUp(ratio: number, steps: number, step: number): number {
  if (step > steps) return ratio
  return Math.max(ratio, 0.25 ** (1 + Math.floor((4 * (step - 1)) / steps)))
}

/**
 * @returns undefined for `none`
 * @throws LockstepError for an unknown name or option, or a value out of range, naming the range
 */
export function compressorByName(text: string): Compressor | undefined {
  if (text === 'none') return undefined
  const [head, ...codecs] = text.split('+')
  const [named, ...settings] = head!.split(',')
  const [name, value, ...rest] = named!.split(':')
  const row = Object.hasOwn(COMPRESSORS, name!) ? COMPRESSORS[name!] : undefined
  if (row === undefined || rest.length > 0) {
    throw wrong(
      text,
      `no compressor is called ${JSON.stringify(name)}`,
      `none, ${Object.keys(COMPRESSORS).join(', ')}`,
    )
  }
  const given = new Map(settings.map((setting) => setting.split('=', 2) as [string, string | undefined]))
  if (value !== undefined) given.set('value', value)
  const ranges: Readonly<Record<string, Range>> = { ...row.options, warmup: WARMUP }
  const feedback = switchOf(text, given.get('feedback'), row.feedback)
  given.delete('feedback')
  const unknown = [...given.keys()].find((key) => !Object.hasOwn(ranges, key))
  if (unknown !== undefined) {
    const known = [...Object.keys(ranges), 'feedback'].filter((key) => key !== 'value')
    const what =
      unknown === 'value' ? `${name} takes no value after a colon` : `${name} has no option ${unknown}`
    throw wrong(text, what, `the options ${known.join(', ')}`)
  }
  const options = Object.fromEntries(
    Object.entries(ranges).map(([key, range]) => [key, numberOf(text, key, given.get(key), range)]),
  )
  const create = row.create(options, feedback, codecOf(text, name!, row, codecs))
  return { name: text, create: (tensors, size) => after(options.warmup!, create(tensors, size)) }
}

/** As it is, but for the first steps, when all is summed exactly: error feedback suffers from gradients that still change fast. */
function after(warmup: number, compressed: CompressedSum): CompressedSum {
  if (warmup === 0) return compressed
  let exact = true
  return {
    state: compressed.state,
    ...(compressed.undo && { undo: () => exact || compressed.undo!() }),
    async sum(links, tensors, { step, samples }) {
      exact = step <= warmup
      if (!exact) return compressed.sum(links, tensors, { step: step - warmup, samples })
      await Promise.all(tensors.map((tensor) => links.allReduce(tensor)))
    },
  }
}

function codecOf(text: string, name: string, row: Row, codecs: readonly string[]): Codec | undefined {
  const [codec] = codecs
  if (codec === undefined) return undefined
  if (row.chains && codecs.length === 1 && Object.hasOwn(CODECS, codec)) return CODECS[codec]
  const chaining = Object.keys(COMPRESSORS).filter((key) => COMPRESSORS[key]!.chains)
  throw wrong(
    text,
    row.chains ? `after ${name} comes ${JSON.stringify(codecs.join('+'))}` : `nothing may follow ${name}`,
    `one of ${Object.keys(CODECS).join(', ')} after one of ${chaining.join(', ')}`,
  )
}

function numberOf(text: string, key: string, given: string | undefined, range: Range): number {
  if (given === undefined) return range.usual
  const value = given.trim() === '' ? Number.NaN : Number(given)
  const fits = value >= range.least && value <= range.most && (!range.whole || Number.isInteger(value))
  if (fits) return value
  const what = key === 'value' ? 'the value after the colon' : key
  throw wrong(
    text,
    `${what} is ${JSON.stringify(given)}`,
    `a ${range.whole ? 'whole ' : ''}number from ${range.least} to ${range.most}`,
  )
}

function switchOf(text: string, given: string | undefined, usual: boolean): boolean {
  if (given === undefined) return usual
  if (given === 'on' || given === 'off') return given === 'on'
  throw wrong(text, `feedback is ${JSON.stringify(given)}`, 'on or off')
}

function wrong(text: string, what: string, expected: string): LockstepError {
  return new LockstepError(`compression ${JSON.stringify(text)}: ${what}; expected ${expected}`)
}
