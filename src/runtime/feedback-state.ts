/**
 * What gradient compressors remember (error feedback and the like), and the state of optimizers that run locally, is another on
 * every rank. In a checkpoint it has names with the rank in them. It reads and writes no file.
 */
import type { Described, Part } from './checkpoint/parts.js'
import { wholePart } from './checkpoint/parts.js'
import type { NamedTensor } from './checkpoint/safetensors.js'

const PREFIX = 'feedback/'

export const isFeedback = ({ name }: Described): boolean => name.startsWith(PREFIX)

/** All ranks' together, by what one of them has. */
export function feedbackTensors(ranks: number, own: readonly NamedTensor[]): Described[] {
  return Array.from({ length: ranks }, (_, rank) =>
    own.map(({ name, shape }) => ({ name: nameOf(rank, name), shape })),
  ).flat()
}

export function feedbackParts(rank: number, own: readonly NamedTensor[]): Part[] {
  const copy = { rank: 0, size: 1, among: 'this rank' }
  return own.map((tensor) => wholePart('optimizer', { ...tensor, name: nameOf(rank, tensor.name) }, copy))
}

/** @returns what of it a run cannot go on with: undefined where everything is there, in the shapes that it has. */
export function unfitFeedback(saved: readonly Described[], ranks: number, own: readonly NamedTensor[]) {
  const shapesOf = (tensors: readonly Described[]) =>
    new Map(tensors.map(({ name, shape }) => [name, shape.join()]))
  const [before, now] = [shapesOf(saved), shapesOf(feedbackTensors(ranks, own))]
  const unfit = [...new Set([...before.keys(), ...now.keys()])].filter((n) => before.get(n) !== now.get(n))
  if (unfit.length === 0) return undefined
  const isLocal = (name: string) => name.split('/')[2] === 'local'
  const what = [
    ...(unfit.some((name) => !isLocal(name)) ? ['error feedback'] : []),
    ...(unfit.some(isLocal) ? ["localSteps' optimizer state"] : []),
  ].join(' and ')
  return now.size === 0
    ? `holds ${what}, which this run has no use for: it is left out`
    : `has no ${what} of ${ranks} ranks with these options: it starts anew`
}

const nameOf = (rank: number, name: string) => `${PREFIX}${rank}/${name}`
