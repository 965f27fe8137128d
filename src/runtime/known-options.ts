/** Refuses options that nobody knows: misspelt, they would do nothing. */
import { LockstepError } from '../errors.js'

/** All options of a kind: by its type none is forgotten, and none is too many. */
export type NamesOf<Options> = Readonly<Record<keyof Required<Options>, true>>

/** @throws LockstepError when `options`, given to `call`, are none, or naming the first that is not known and all that are */
export function requireKnown<Options extends object>(
  call: string,
  options: Options,
  names: NamesOf<Options>,
): void {
  const known = Object.keys(names).join(', ')
  if (typeof options !== 'object' || options === null)
    throw new LockstepError(`${call}(model, options): options are ${options}: expected some of { ${known} }`)
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name))
  if (unknown !== undefined)
    throw new LockstepError(`${call}(): unknown option ${JSON.stringify(unknown)}: expected ${known}`)
}
