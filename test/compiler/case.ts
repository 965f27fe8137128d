/** A case of the conformance table: a function of some arguments, compared by the harness. */
import { test } from 'vitest'
import { type Argument, compare, type TensorFunction } from './harness.js'

export interface Case {
  readonly name: string
  readonly args: readonly Argument[]
  readonly f: TensorFunction
  /** What is run eagerly instead of `f`. */
  readonly oracle?: TensorFunction | undefined
}

export const example = (
  name: string,
  args: readonly Argument[],
  f: TensorFunction,
  oracle?: TensorFunction,
): Case => ({ name, args, f, oracle })

export function runCases(table: readonly Case[]): void {
  for (const { name, args, f, oracle } of table) test(name, () => compare(args, f, { oracle }))
}
