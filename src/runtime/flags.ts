/** The command line of a training script: flags read and checked. It refuses to know what they are for. */
import { parseArgs } from 'node:util'
import { LockstepError } from '../errors.js'

type Default = number | string | readonly string[]

export type Flags<D> = {
  [Name in keyof D]: D[Name] extends number
    ? number
    : D[Name] extends readonly (infer Choice)[]
      ? Choice
      : string
}

/**
 * `readFlags({ steps: 100, lr: 0.01, optimizer: ['adam', 'sgd'], saveTo: '' })` reads `--steps`, `--lr`, `--optimizer` and
 * `--save-to` from the command line. A default says what a flag takes: a whole number (from 1 on, or from 0 on where the
 * default is 0), a number above 0 (where the default is none that is whole), one of a list (whose first is the default),
 * or any text.
 *
 * @throws LockstepError naming the flag, what was given and what was expected.
 */
export function readFlags<const D extends Readonly<Record<string, Default>>>(
  defaults: D,
  args: readonly string[] = process.argv.slice(2),
): Flags<D> {
  const given = parse(Object.keys(defaults).map(dashed), args)
  const read = Object.entries(defaults).map(([name, usual]) => {
    const text = given[dashed(name)]
    if (text === undefined) return [name, typeof usual === 'object' ? usual[0] : usual]
    return [name, readValue(`--${dashed(name)}`, text, usual)]
  })
  return Object.fromEntries(read)
}

const dashed = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

function parse(names: readonly string[], args: readonly string[]): Partial<Record<string, string>> {
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' } as const]))
  try {
    return parseArgs({ args: [...args], options }).values
  } catch (cause) {
    const [reason] = (cause as Error).message.split('. ')
    throw new LockstepError(`${reason}: expected ${names.map((name) => `--${name} …`).join(', ')}`, { cause })
  }
}

function readValue(flag: string, text: string, usual: Default): number | string {
  const refuse = (expected: string) =>
    new LockstepError(`${flag} is ${JSON.stringify(text)}: expected ${expected}`)
  if (typeof usual === 'string') return text
  if (typeof usual === 'object') {
    if (usual.includes(text)) return text
    throw refuse(usual.join(', '))
  }
  const value = Number(text)
  if (Number.isInteger(usual) || usual === Number.POSITIVE_INFINITY) {
    const least = Math.min(usual, 1)
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value
    throw refuse(`a whole number of at least ${least}`)
  }
  if (text.trim() !== '' && value > 0 && Number.isFinite(value)) return value
  throw refuse('a number above 0')
}
