/** Says how the tensors of a checkpoint differ from a model's. Compares names and shapes; values are its business not. */
import { LockstepError } from '../../errors.js'

interface Described {
  readonly name: string
  readonly shape: readonly number[]
}

const SHOWN = 3

/**
 * Passes when both have the same names, in any order, with the same shapes.
 * @param path the checkpoint, and `owner` whose tensors these should be, e.g. `model` or `optimizer (adam)`.
 * @throws LockstepError that counts and names the tensors that are missing, not expected, or of another shape.
 */
export function requireSameTensors(
  owner: string,
  expected: readonly Described[],
  found: readonly Described[],
  path: string,
): void {
  const shapes = new Map(found.map(({ name, shape }) => [name, shape]))
  const names = new Set(expected.map(({ name }) => name))
  const missing = expected.filter(({ name }) => !shapes.has(name))
  const unexpected = found.filter(({ name }) => !names.has(name))
  const reshaped = expected.filter(({ name, shape }) => shapes.has(name) && !same(shape, shapes.get(name)!))
  const differences = [
    summary('missing', missing, describe),
    summary('not expected', unexpected, describe),
    summary(
      'of another shape',
      reshaped,
      ({ name, shape }) => `${name} [${shapes.get(name)}] instead of [${shape}]`,
    ),
  ].filter((line) => line !== '')
  if (differences.length === 0) return
  throw new LockstepError(
    `checkpoint ${path} is not of this ${owner}: ${differences.join('; ')}; ` +
      'resume with the model and optimizer that were saved, or give another checkpoint directory',
  )
}

function summary(what: string, tensors: readonly Described[], show: (tensor: Described) => string): string {
  if (tensors.length === 0) return ''
  const more = tensors.length > SHOWN ? `, and ${tensors.length - SHOWN} more` : ''
  return `${tensors.length} ${what} (${tensors.slice(0, SHOWN).map(show).join(', ')}${more})`
}

function describe({ name, shape }: Described): string {
  return `${name} [${shape}]`
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i])
}
