/** LOCKSTEP_* variables -> options. An empty variable counts as none; a wrong one is an error that names it. */
import { LockstepError } from '../../src/errors.js'
import { type Given, OPTION_NAMES, TABLE, variableOf } from './table.js'

export function readVariables(env: NodeJS.ProcessEnv): Given {
  const entries = OPTION_NAMES.flatMap((name) => {
    const text = env[variableOf(name)]
    if (!text) return []
    const { form } = TABLE[name]
    const value = form.read(text)
    if (value === undefined) {
      throw new LockstepError(
        `environment variable ${variableOf(name)} is "${text}": expected ${form.expected}`,
      )
    }
    return [[name, value]]
  })
  return Object.fromEntries(entries)
}
