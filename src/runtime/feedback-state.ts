/**
 * What gradient compressors remember (error feedback and the like) is another on every rank. In a checkpoint it has names
 * with the rank in them. It reads and writes no file.
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

const nameOf = (rank: number, name: string) => `${PREFIX}${rank}/${name}`
